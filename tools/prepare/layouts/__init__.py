"""The published layouts of data sets, one module each, and what several of them share (folders.py, dataset_json.py).

A layout has NAME, MODALITY, LABELS and `collect(source, root, allow_unlabelled, problems)`, which returns the cases of
the datalist and notes for the user, and puts whatever is wrong with the files into `problems`.
"""
