"""Fat, muscle, bone and liver on CT, from thresholds where that is sound and from organs that were drawn."""
