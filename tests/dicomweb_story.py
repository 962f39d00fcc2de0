"""What `test_label_dicomweb.py` runs inside a network namespace, with the Python of `make label`.

Usage: dicomweb_story.py FOLDER_OF_NIFTI BUNDLE WEIGHTS OUTPUT LABEL_NIFTI. Stores the images as CT series, infers one,
scores all, stores a label as SEG, and trains; writes what came back into OUTPUT.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK
from dicomweb_client import DICOMwebClient
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from tests.label_server import LabelServer
from tests.orthanc import URL, Orthanc


def series(path: Path, number: int) -> list[Dataset]:
    """A NIfTI volume as the slices of a CT series."""
    image = nib.nifti1.load(path)
    voxels = np.asarray(image.dataobj)
    axes = np.diag([-1, -1, 1, 1]) @ image.affine  # NIfTI counts to the left and front, DICOM to the right and back
    spacing = np.linalg.norm(axes[:3, :3], axis=0)
    study, uid, frame = (generate_uid(entropy_srcs=[path.name, what]) for what in ("study", "series", "frame"))
    slices = []
    for z in range(voxels.shape[2]):
        one = Dataset()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.preamble = b"\0" * 128
        one.is_little_endian, one.is_implicit_VR = True, False
        one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = CTImageStorage
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.name, str(z)])
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, uid, frame
        one.PatientID = one.PatientName = path.name.split(".")[0]
        one.PatientBirthDate = one.PatientSex = one.AccessionNumber = one.ReferringPhysicianName = ""
        one.StudyID, one.StudyDate, one.StudyTime = "1", "20260101", "120000"
        one.Modality, one.Manufacturer, one.SeriesNumber, one.InstanceNumber = "CT", "phantom", number, z + 1
        one.PixelSpacing, one.SliceThickness = [float(spacing[1]), float(spacing[0])], float(spacing[2])
        one.ImageOrientationPatient = [float(v) for v in (*axes[:3, 0] / spacing[0], *axes[:3, 1] / spacing[1])]
        one.ImagePositionPatient = [float(v) for v in (axes @ [0, 0, z, 1])[:3]]
        one.Rows, one.Columns = voxels.shape[1], voxels.shape[0]
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation = 15, 1
        one.RescaleSlope, one.RescaleIntercept, one.RescaleType = 1, 0, "HU"
        one.PixelData = np.ascontiguousarray(voxels[:, :, z].T.astype("<i2")).tobytes()
        slices.append(one)
    return slices


def proxied(server: LabelServer) -> dict[str, Any]:
    """What OHIF gets of the DICOM server through this one, and what nobody gets."""
    studies = server.get("/proxy/dicom/qido/studies").json()
    uid = studies[0]["0020000D"]["Value"][0]
    slices = server.get(f"/proxy/dicom/wado/studies/{uid}/metadata").json()
    inside, outside = "/proxy/dicom/wado/studies", "/proxy/dicom/wado"
    refused = [
        server.get(f"{outside}/{path}").status
        for path in ("../system", "%2e%2e/system", "studies/../../system", "studies/%2e%2e/%2e%2e/system", "system")
    ]
    refused += [
        server.post(path, {}).status for path in (f"{outside}/series", f"{inside}/..", f"{inside}/{uid}/series")
    ]
    junk = server.request("POST", inside, b"junk", content_type="multipart/related; boundary=x").status
    return {"studies": len(studies), "slices": len(slices), "refused": refused, "junk": junk}


def main(images: Path, bundle: Path, weights: Path, output: Path, label: Path) -> None:
    """Tell the story."""
    found = {}
    with Orthanc(output / "orthanc"):
        client = DICOMwebClient(URL)
        ids = {}
        for number, path in enumerate(sorted(images.glob("*.nii.gz")), 1):
            slices = series(path, number)
            client.store_instances(slices)
            ids[path.name.split(".")[0]] = str(slices[0].SeriesInstanceUID)
        study = label.name.split(".")[0]
        options = ["--model", str(weights)]
        with LabelServer(bundle, URL, output / "work", *options) as server:
            found["datastore"] = server.get("/info/").json()["datastore"]
            np.save(output / "inferred.npy", server.infer(ids[study], output))
            path = f"/infer/dca_synapse?image={ids[study]}&output=dicom_seg"
            answer = server.form("POST", path, {"params": "{}"})
            assert answer.status == 200, answer.body
            (output / "inferred.dcm").write_bytes(answer.body)
            found["bad"] = [
                server.form("POST", "/infer/dca_synapse?image=1.2.3", {"params": "{}"}).status,
                server.form(
                    "PUT", f"/datastore/label?image={ids[study]}&tag=final", {"label": images / label.name}
                ).status,
            ]
            found["proxied"] = proxied(server)
            found["scored by itself"] = server.get("/scoring/").status
            server.post("/scoring/disagreement").json()
            found["scoring"] = server.wait_for("scoring")["status"]
            found["next"] = server.post("/activelearning/disagreement").json()
            # A viewer draws on the image as the server gives it, whose slices may be counted from the other end.
            (output / "image.nii.gz").write_bytes(server.get(f"/datastore/image?image={ids[study]}").body)
            drawn = output / "drawn.nii.gz"
            grid = SimpleITK.ReadImage(str(output / "image.nii.gz"))
            on_grid = SimpleITK.Resample(
                SimpleITK.ReadImage(str(label)), grid, interpolator=SimpleITK.sitkNearestNeighbor
            )
            SimpleITK.WriteImage(on_grid, str(drawn))
            saved = server.form("PUT", f"/datastore/label?image={ids[study]}&tag=final", {"label": drawn}).json()
            assert saved["image"] == ids[study]
            time.sleep(6)  # as long as MONAI Label remembers what the DICOM server had
        # A server with an empty cache knows of the label from the SEG alone.
        with LabelServer(bundle, URL, output / "fresh", *options) as server:
            found["trained"] = server.post("/train/dca_synapse", {"max_epochs": 1}).json()["status"]
            found["training"] = server.wait_for("train")
            found["split"] = json.loads((output / "fresh" / "training" / "split.json").read_text())
            found["cases"] = json.loads((output / "fresh" / "training" / "datalist.json").read_text())["cases"]
        segmentation = client.search_for_series(search_filters={"Modality": "SEG"})
        found["segs"] = len(segmentation)
        seg = Dataset.from_json(segmentation[0])
        stored = client.retrieve_series(str(seg.StudyInstanceUID), str(seg.SeriesInstanceUID))[0]
        stored.save_as(output / "stored.dcm", write_like_original=False)
    found["ids"] = ids
    (output / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
