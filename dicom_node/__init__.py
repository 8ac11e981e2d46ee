"""The wire: DICOM in, DICOM out, and when a study is complete."""
