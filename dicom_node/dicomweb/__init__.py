"""DICOMweb (PS3.18): what this node received and made, for viewers; and another way in."""
