"""The published layouts of data sets, one module each.

A layout has NAME, MODALITY, LABELS and `collect(source, root, allow_unlabelled, problems)`, which returns the cases of
the datalist and notes for the user, and puts whatever is wrong with the files into `problems`.
"""
