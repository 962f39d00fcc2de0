"""The published layouts of data sets, one module each, and what several of them share (folders.py, dataset_json.py).

A layout has NAME, MODALITY, LABELS and `collect(source, root, allow_unlabelled, findings)`, which returns the cases of
the datalist and puts into `findings` whatever is wrong with the files, and notes for the user.
"""
