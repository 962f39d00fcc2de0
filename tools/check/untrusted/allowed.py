"""The targets that do no more than their name says: all others of a foreign bundle are named.

Allowed are classes, never functions, and by name. That MONAI has something is no reason to trust it: `download_url`,
`run_cmd`, `bundle.run` and losses that fetch code are MONAI's, too. A module in front is no reason, either:
`torch.nn.functional.torch.load` exists. Left out on purpose: what calls another library by name (TorchVision), fetches
(PerceptualLoss, EfficientNetBN, MILModel), talks to a server (MLFlowHandler), or reads what is unpickled or fetched
(PersistentDataset, CSVDataset).
"""

from __future__ import annotations

import re

# Transforms of arrays; those of dictionaries have the same name and d, D or Dict behind it.
TRANSFORMS = """
Activations AddCoordinateChannels AdjustContrast Affine AsChannelLast AsDiscrete BorderPad BoundingRect
CastToType CenterScaleCrop CenterSpatialCrop ClassesToIndices ClipIntensityPercentiles Compose ConcatItems
ConvertToMultiChannelBasedOnBratsClasses CopyItems Crop CropForeground CutMix CutOut DataStats DeleteItems
DistanceTransformEDT DivisiblePad EnsureChannelFirst EnsureType FgBgToIndices FillHoles Flip ForegroundMask
GaussianSharpen GaussianSmooth GibbsNoise GridDistortion HistogramNormalize Identity Invert KSpaceSpikeNoise
KeepLargestConnectedComponent LabelFilter LabelToContour LabelToMask Lambda LoadImage MapLabelValue
MaskIntensity MeanEnsemble MedianSmooth MixUp NormalizeIntensity OneOf Orientation Pad ProbNMS Rand2DElastic
Rand3DElastic RandAdjustContrast RandAffine RandAxisFlip RandBiasField RandCoarseDropout RandCoarseShuffle
RandCrop RandCropByLabelClasses RandCropByPosNegLabel RandFlip RandGaussianNoise RandGaussianSharpen
RandGaussianSmooth RandGibbsNoise RandGridDistortion RandHistogramShift RandLambda RandRicianNoise RandRotate
RandRotate90 RandScaleCrop RandScaleIntensity RandScaleIntensityFixedMean RandShiftIntensity
RandSimulateLowResolution RandSpatialCrop RandSpatialCropSamples RandStdShiftIntensity RandWeightedCrop RandZoom
RandomOrder RemoveSmallObjects RepeatChannel Resample ResampleToMatch Resize ResizeWithPadOrCrop Rotate Rotate90
SaveImage ScaleIntensity ScaleIntensityFixedMean ScaleIntensityRange ScaleIntensityRangePercentiles SelectItems
ShiftIntensity SobelGradients SomeOf Spacing SpatialCrop SpatialPad SpatialResample SplitDim SqueezeDim
StdShiftIntensity ThresholdIntensity ToDevice ToNumpy ToTensor Transpose VoteEnsemble Zoom
"""
CLASSES = {
    "monai.networks.nets": """
        AHNet AttentionUnet AutoEncoder AutoencoderKL BasicUNet BasicUNetPlusPlus Classifier ControlNet Critic
        DenseNet DenseNet121 DenseNet169 DenseNet201 DenseNet264 DiNTS DiffusionModelUNet Discriminator DynUNet
        FlexibleUNet FullyConnectedNet Generator GlobalNet HighResNet HoVerNet LocalNet MedNeXt
        PatchDiscriminator Quicknat RegUNet Regressor ResNet SegResNet SegResNetDS SegResNetDS2 SegResNetVAE
        SwinUNETR TopologyInstance TopologySearch UNETR UNet VNet VQVAE VarAutoEncoder ViT ViTAutoEnc VoxelMorph
    """,
    "monai.losses": """
        AsymmetricUnifiedFocalLoss BendingEnergyLoss ContrastiveLoss DeepSupervisionLoss DiceCELoss
        DiceFocalLoss DiceLoss FocalLoss GeneralizedDiceFocalLoss GeneralizedDiceLoss
        GeneralizedWassersteinDiceLoss GlobalMutualInformationLoss HausdorffDTLoss
        LocalNormalizedCrossCorrelationLoss LogHausdorffDTLoss MaskedDiceLoss MaskedLoss MultiScaleLoss
        PatchAdversarialLoss SSIMLoss TverskyLoss
    """,
    "monai.metrics": """
        ConfusionMatrixMetric CumulativeAverage DiceMetric FBetaScore GeneralizedDiceScore
        HausdorffDistanceMetric LossMetric MAEMetric MSEMetric MeanIoU MultiScaleSSIMMetric PSNRMetric
        PanopticQualityMetric RMSEMetric ROCAUCMetric SSIMMetric SurfaceDiceMetric SurfaceDistanceMetric
    """,
    "monai.inferers": """
        DiffusionInferer LatentDiffusionInferer PatchInferer SaliencyInferer SimpleInferer SliceInferer
        SlidingWindowInferer SlidingWindowInfererAdapt SlidingWindowSplitter
    """,
    # CheckpointLoader reads weights only; what writes is told the folder by the config.
    "monai.handlers": """
        CheckpointLoader CheckpointSaver ClassificationSaver ConfusionMatrix DecollateBatch EarlyStopHandler
        GarbageCollector HausdorffDistance IgniteMetricHandler LogfileHandler LrScheduleHandler
        MeanAbsoluteError MeanDice MeanIoUHandler MeanSquaredError MetricLogger MetricsSaver PanopticQuality
        ParamSchedulerHandler PeakSignalToNoiseRatio PostProcessing ROCAUC RootMeanSquaredError
        SmartCacheHandler StatsHandler SurfaceDistance TensorBoardHandler TensorBoardImageHandler
        TensorBoardStatsHandler ValidationHandler
    """,
    "monai.data": """
        ArrayDataset CacheDataset DataLoader Dataset DistributedSampler DistributedWeightedRandomSampler
        GridPatchDataset ITKReader ITKWriter ImageDataset NibabelReader NibabelWriter NrrdReader NumpyReader
        PILReader PILWriter PatchDataset PydicomReader SmartCacheDataset ThreadDataLoader ZipDataset
    """,
    "monai.engines": "EnsembleEvaluator GanTrainer SupervisedEvaluator SupervisedTrainer",
    "monai.optimizers": "LearningRateFinder Novograd WarmupCosineSchedule",
    "torch": "device",
    "torch.nn.parallel": "DistributedDataParallel",
    "torch.utils.data": "DataLoader",
}
NAMES = {module: frozenset(names.split()) for module, names in CLASSES.items()}
NAMES["monai.transforms"] = frozenset(name + ending for name in TRANSFORMS.split() for ending in ("", "d", "D", "Dict"))
# MONAI finds its own classes by their name alone.
BARE = frozenset(name for module, names in NAMES.items() if module.startswith("monai.") for name in names)
# Every class directly in these modules; FID and InceptionScore fetch a network.
WHOLE = re.compile(r"(torch\.nn|torch\.optim|torch\.optim\.lr_scheduler|ignite\.metrics)\.(?!FID|Inception)[A-Z]\w*")
# What MONAI imports and calls by an argument's text; a class of its own has such a name.
CALLED_ARGUMENTS = frozenset({"reader", "image_reader", "writer", "merger_cls"})
OWN_CALLED = re.compile(r"[A-Z]\w*(Reader|Writer|Merger)")


def is_allowed(target: str) -> bool:
    """Whether a `_target_` names a class that does no more than its name says."""
    module, _, name = target.rpartition(".")
    if not module:
        return target in BARE
    listed = any(
        name in names and (module == root or (root.startswith("monai.") and module.startswith(root + ".")))
        for root, names in NAMES.items()
    )
    return listed or WHOLE.fullmatch(target) is not None
