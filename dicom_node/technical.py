"""Which headers tell how an image was made, and nothing of people: what may be shown to whoever looks."""

#: The headers of a series that tell how it was made and nothing of people. All others are private.
TECHNICAL = frozenset({
    "Modality", "BodyPartExamined", "Laterality", "PatientPosition", "ImageType", "SpecificCharacterSet",
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
    "SeriesNumber", "AcquisitionNumber", "InstanceNumber", "NumberOfFrames",
    "Manufacturer", "ManufacturerModelName", "SoftwareVersions",
    "KVP", "XRayTubeCurrent", "ExposureTime", "Exposure", "ConvolutionKernel", "FilterType", "ScanOptions",
    "GantryDetectorTilt", "ReconstructionDiameter", "DataCollectionDiameter", "RevolutionTime",
    "SingleCollimationWidth", "TotalCollimationWidth", "SpiralPitchFactor", "CTDIvol",
    "MagneticFieldStrength", "ScanningSequence", "SequenceVariant", "MRAcquisitionType", "RepetitionTime",
    "EchoTime", "InversionTime", "FlipAngle", "EchoTrainLength",
    "SliceThickness", "SpacingBetweenSlices", "SliceLocation", "PixelSpacing", "ImagePositionPatient",
    "ImageOrientationPatient", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope", "RescaleIntercept",
    "RescaleType", "WindowCenter", "WindowWidth", "LossyImageCompression", "LossyImageCompressionRatio",
})  # fmt: skip
