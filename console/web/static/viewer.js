// Once the segmentation that the link names is drawn, go to the slice through the middle of a segment: the one
// that the link names, else the first. OHIF itself shows the first slice that anything is drawn on.
(() => {
  "use strict";
  const asked = new URLSearchParams(location.search);
  if (!asked.has("initialSeriesInstanceUID")) return;
  const number = Number(asked.get("segment")) || 1;

  // The slice is fetched before it is gone to: OHIF would lay the new slice's colours over the old one's image
  // until it is here.
  async function go(service, id) {
    const jump = () => service.jumpToSegmentCenter(id, number, undefined, 0.9, false);
    try {
      const { world } = service._getSegmentCenter(id, number);
      const { viewport } = cornerstone.getEnabledElementByViewportId(service.getViewportIdsWithSegmentation(id)[0]);
      const index = cornerstone.utilities.getClosestStackImageIndexForPoint(world, viewport);
      await cornerstone.imageLoader.loadAndCacheImage(viewport.getImageIds()[index]);
    } finally {
      jump();
    }
  }

  function follow(service) {
    const { unsubscribe } = service.subscribe(service.EVENTS.SEGMENTATION_REPRESENTATION_MODIFIED, (told) => {
      const id = told && told.segmentationId;
      if (!id || !service.getViewportIdsWithSegmentation(id).length) return;
      unsubscribe();
      // Not in the middle of OHIF's own work on the viewport.
      setTimeout(() => go(service, id), 0);
    });
  }

  const looking = setInterval(() => {
    const service = window.services && window.services.segmentationService;
    if (!service) return;
    clearInterval(looking);
    follow(service);
  }, 50);
})();
