"""From findings to DICOM objects: pure, and the half of the product a radiologist sees."""
