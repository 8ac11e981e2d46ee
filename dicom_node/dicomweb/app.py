"""The resources of DICOMweb (PS3.18 §10.2) and what answers each of them.

Everything blocking happens in threads: queries, files, waiting for a child. A client that takes its answer
slowly holds a connection and an open file, and no thread.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from dicom_node.dicomweb import retrieve
from dicom_node.dicomweb.access import Guard
from dicom_node.dicomweb.attributes import Json
from dicom_node.dicomweb.frames import open_file
from dicom_node.dicomweb.media import DICOM, JSON, MULTIPART, OCTETS, MediaRange, accepted, parse
from dicom_node.dicomweb.metadata import Metadata
from dicom_node.dicomweb.multipart import new_boundary, written
from dicom_node.dicomweb.query import Level, Query, answers, parse_query
from dicom_node.dicomweb.readers import Readers
from dicom_node.dicomweb.refusals import BadRequest, NotAcceptable, NotHere, Refused
from dicom_node.dicomweb.settings import WebSite
from dicom_node.dicomweb.store import Upload, answer
from dicom_node.dicomweb.zipped import ZIP, zipped
from dicom_node.headers import Headers
from dicom_node.refusals import Refusals
from dicom_node.spool import Spool
from ledger.errors import SiteError
from ledger.holding import HeldInstance, HeldSeries, HeldStudy
from ledger.identifiers import Uid
from ledger.store.ledger import Ledger

ROOT = "/dicom-web"
_STUDY = f"{ROOT}/studies/{{study}}"
_SERIES = f"{_STUDY}/series/{{series}}"
_INSTANCE = f"{_SERIES}/instances/{{instance}}"
_PIECE = 1 << 20  # Of an upload, before a thread is asked to write it.
_FRAMES_MAXIMUM = 2000  # numbers in one URL
_THUMBNAIL = (128, 128)


@dataclass(frozen=True, slots=True)
class Held:
    """One instance, and where it belongs."""

    study: HeldStudy
    series: HeldSeries
    instance: HeldInstance


class DicomWeb:
    """Answers requests out of one ledger and one spool."""

    def __init__(
        self,
        site: WebSite,
        ledger: Ledger,
        spool: Spool,
        readers: Readers,
        refusals: Refusals | None = None,
    ) -> None:
        """`refusals` hears of requests and instances that are refused here; without it only the log does."""
        self._refusals = refusals
        self._site, self._ledger, self._spool, self._readers = site, ledger, spool, readers
        self._metadata = Metadata(readers, at_once=site.dicomweb.decoders)

    def app(self) -> Starlette:
        """The application, with its guard before it."""
        app = self.bare()
        app.add_middleware(Guard, settings=self._site.dicomweb, refusals=self._refusals)
        return app

    def bare(self) -> Starlette:
        """The application without a guard: for a server that has decided before who may ask."""
        query = [
            (f"{ROOT}/studies", Level.STUDY),
            (f"{ROOT}/series", Level.SERIES),
            (f"{ROOT}/instances", Level.INSTANCE),
            (f"{_STUDY}/series", Level.SERIES),
            (f"{_STUDY}/instances", Level.INSTANCE),
            (f"{_SERIES}/instances", Level.INSTANCE),
        ]
        routes = [Route(path, self._queried(level), methods=["GET"]) for path, level in query]
        for path in (f"{ROOT}/studies", _STUDY):
            routes.append(Route(path, self.store, methods=["POST"]))
        for path in (_STUDY, _SERIES, _INSTANCE):
            routes.append(Route(path, self.instances, methods=["GET"]))
            routes.append(Route(f"{path}/metadata", self.metadata, methods=["GET"]))
            routes.append(Route(f"{path}/thumbnail", self.thumbnail, methods=["GET"]))
        routes += [
            Route(f"{_INSTANCE}/rendered", self.rendered, methods=["GET"]),
            Route(f"{_INSTANCE}/frames/{{frames}}", self.frames, methods=["GET"]),
            Route(f"{_INSTANCE}/frames/{{frames}}/rendered", self.rendered, methods=["GET"]),
            Route(f"{_INSTANCE}/frames/{{frames}}/thumbnail", self.thumbnail, methods=["GET"]),
            Route(f"{_INSTANCE}/bulkdata/{{steps:path}}", self.bulk_data, methods=["GET"]),
        ]
        return Starlette(routes=routes, exception_handlers={Refused: _refused, SiteError: _away})

    # QIDO-RS

    def _queried(self, level: Level) -> Callable[[Request], Response]:
        def handler(request: Request) -> Response:
            _only_json(request)
            pairs = request.query_params.multi_items()
            query = parse_query(level, pairs, study=_uid(request, "study"), series=_uid(request, "series"))
            entries, more = self._answers(query, request)
            headers = [("Warning", words) for words in _warnings(query, more)]
            response = Response(json.dumps(entries, separators=(",", ":")), media_type=JSON)
            for name, value in headers:
                response.headers.append(name, value)
            return response

        return handler

    def _answers(self, query: Query, request: Request) -> tuple[list[Json], bool]:
        most = self._site.dicomweb.results_max
        count = most if query.limit is None else min(query.limit, most)
        studies = self._ledger.held_studies(query.studies, instances=query.level is Level.INSTANCE)
        found = list(itertools.islice(answers(query, studies, self._headers), count + 1))
        base = self._base(request)
        for entry in found[:count]:
            uids = [entry[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018") if tag in entry]
            entry["00081190"] = {"vr": "UR", "Value": [_url(base, *uids[: query.level + 1])]}
        return found[:count], len(found) > count and count == most

    def _headers(self, instance: HeldInstance) -> Headers:
        try:
            return open_file(self._spool.absolute(instance.path)).headers()
        except (NotHere, NotAcceptable):
            return {}  # One damaged or just deleted file must not hide the others.

    # WADO-RS

    def instances(self, request: Request) -> Response:
        """A study, a series or an instance as files of Part 10, in a multipart body or in a ZIP file."""
        ranges, base = _accept(request), self._base(request)
        held = self._held(request)
        if retrieve.wants_zip(ranges):
            files = (
                (name, retrieve.contents(self._spool.absolute(each.instance.path)))
                for name, each in zip(_names(held), held, strict=True)
            )
            return StreamingResponse(retrieve.begun(retrieve.gathered(zipped(files))), media_type=ZIP)
        forms = [retrieve.form_of_instance(ranges, str(each.instance.transfer_syntax)) for each in held]
        if len(held) == 1 and not forms[0].multipart:
            path = self._spool.absolute(held[0].instance.path)
            pieces = retrieve.begun(retrieve.instance(path, forms[0], self._readers))
            return StreamingResponse(pieces, media_type=forms[0].content_type)
        if not all(form.multipart for form in forms):
            raise NotAcceptable(f'several instances are given as {MULTIPART}; type="{DICOM}" only')
        parts = (
            (
                form.content_type,
                _url(base, each.study.study, each.series.series, each.instance.sop_instance),
                retrieve.instance(self._spool.absolute(each.instance.path), form, self._readers),
            )
            for each, form in zip(held, forms, strict=True)
        )
        return _multipart(DICOM, parts)

    def metadata(self, request: Request) -> Response:
        """Everything but bulk data, as DICOM JSON."""
        _only_json(request)
        held, base = self._held(request), self._base(request)

        instances = [
            (
                str(self._spool.absolute(each.instance.path)),
                f"{_url(base, each.study.study, each.series.series, each.instance.sop_instance)}/bulkdata",
            )
            for each in held
        ]
        return StreamingResponse(retrieve.begun(self._metadata.array(instances)), media_type=JSON)

    def frames(self, request: Request) -> Response:
        """Some frames of an instance, in the order in which they are asked for."""
        held, base = self._held(request)[0], self._base(request)
        numbers = _frame_numbers(request)
        form = retrieve.form_of_frames(_accept(request), str(held.instance.transfer_syntax))
        path = self._spool.absolute(held.instance.path)
        pieces = retrieve.begun(retrieve.frames(path, numbers, form, self._readers))
        if not form.multipart:
            if len(numbers) > 1:
                raise NotAcceptable(f"several frames are given as {MULTIPART} only")
            return StreamingResponse(pieces, media_type=form.content_type)
        url = _url(base, held.study.study, held.series.series, held.instance.sop_instance)
        parts = (
            (form.content_type, f"{url}/frames/{number}", [piece])
            for number, piece in zip(numbers, pieces, strict=True)
        )
        return _multipart(form.type, parts)

    def bulk_data(self, request: Request) -> Response:
        """One value that the metadata only refer to."""
        held, ranges = self._held(request)[0], _accept(request)
        steps = _steps(request.path_params["steps"])
        path = self._spool.absolute(held.instance.path)
        pixels = steps in (["7FE00010"], ["7FE00008"], ["7FE00009"])
        if pixels and open_file(path).pixels().length is None:
            numbers = list(range(1, retrieve.number_of_frames(path) + 1))
            # Whoever asks for octets gets what there is: the value of the attribute is compressed.
            form = retrieve.form_of_frames(
                [
                    MediaRange("*/*", True) if each.takes(OCTETS) and not each.transfer_syntax else each
                    for each in ranges
                ],
                str(held.instance.transfer_syntax),
            )
            pieces = retrieve.begun(retrieve.frames(path, numbers, form, self._readers))
            return _multipart(form.type, ((form.content_type, None, [piece]) for piece in pieces))
        wanted = next((each for each in ranges if each.takes(OCTETS)), None)
        if wanted is None:
            raise NotAcceptable(f"bulk data are given as {OCTETS}")
        if pixels:
            pieces = retrieve.begun(retrieve.pixel_bytes(path))
        else:
            pieces = iter([self._readers.ask({"do": "bulk", "path": str(path), "steps": steps})])
        if wanted.multipart:
            return _multipart(OCTETS, iter([(OCTETS, None, pieces)]))
        return StreamingResponse(pieces, media_type=OCTETS)

    def rendered(self, request: Request) -> Response:
        """A frame as people see it."""
        parameters = request.query_params
        quality = _numbers(parameters.get("quality"), 1, "quality")
        fit = _numbers((parameters.get("viewport") or "").rstrip(",") or None, 2, "viewport")
        if (quality and not 1 <= quality[0] <= 100) or (fit and not all(1 <= n <= 8192 for n in fit)):
            raise BadRequest("quality is 1 to 100; viewport is width and height in pixels, at most 8192")
        return self._picture(
            request,
            self._held(request)[0],
            fit,
            _window(parameters.get("window")),
            int(quality[0]) if quality else 90,
        )

    def thumbnail(self, request: Request) -> Response:
        """A small picture of a frame, or of the middle of a study, series or instance."""
        fit = _numbers((request.query_params.get("viewport") or "").rstrip(",") or None, 2, "viewport")
        if fit and not all(1 <= n <= 1024 for n in fit):
            raise BadRequest("viewport is width and height in pixels, at most 1024 for a thumbnail")
        held = self._held(request)
        # What was received stands for the study, not what was made of it.
        images = [each for each in held if not each.instance.made] or held
        return self._picture(request, images[len(images) // 2], fit or list(_THUMBNAIL), None, 80)

    def _picture(
        self, request: Request, held: Held, fit: list[float] | None, window: list[Any] | None, quality: int
    ) -> Response:
        path = self._spool.absolute(held.instance.path)
        count = retrieve.number_of_frames(path)
        numbers = _frame_numbers(request) if "frames" in request.path_params else [count // 2 + 1]
        if len(numbers) > 1:
            raise NotAcceptable("one picture is made at a time: ask for one frame")
        formats = ("image/jpeg", "image/png")
        format = next(
            (f for each in _accept(request) if not each.multipart for f in formats if each.takes(f)), None
        )
        if format is None:
            raise NotAcceptable("pictures are given as image/jpeg or image/png")
        order = {
            "do": "picture",
            "path": str(path),
            "frame": numbers[0] - 1,
            "fit": fit,
            "window": window,
            "format": format,
            "quality": quality,
        }
        return Response(self._readers.ask(order), media_type=format)

    # STOW-RS

    async def store(self, request: Request) -> Response:
        """Instances, each with an answer of its own."""
        _only_json(request)
        upload = Upload(
            spool=self._spool,
            settings=self._site.dicomweb,
            shape=self._site.data_set,
            called=self._site.ae_title,
            address=request.client.host if request.client else "",
            study=_uid(request, "study"),
            refusals=self._refusals,
        )
        try:
            upload.begin(*parse(request.headers.get("content-type", "none/none")[:1024]))
            pieces: list[bytes] = []
            size = 0
            async for piece in request.stream():
                pieces.append(piece)
                size += len(piece)
                if size >= _PIECE:
                    await run_in_threadpool(upload.feed, b"".join(pieces))
                    pieces, size = [], 0
            await run_in_threadpool(upload.feed, b"".join(pieces))
            await run_in_threadpool(upload.finish)
        except ClientDisconnect:
            return Response(status_code=400)  # Nobody reads it. What was stored before is stored.
        finally:
            await run_in_threadpool(upload.close)
        base = self._base(request)
        status, entry = answer(upload.outcomes, lambda *uids: _url(base, *uids))
        headers = {"Retry-After": "30"} if status == 503 else {}
        return Response(json.dumps(entry), status, headers, media_type=JSON)

    # What is asked for

    def _held(self, request: Request) -> list[Held]:
        """The instances of the study, series or instance in the URL. Raises `NotHere`, `BadRequest`."""
        uid, series, instance = (_uid(request, name) for name in ("study", "series", "instance"))
        assert uid is not None
        study = self._ledger.held_study(uid)
        found = [
            Held(study, of_study, each)
            for of_study in (study.series if study else ())
            if series in (None, of_study.series)
            for each in of_study.instances
            if instance in (None, each.sop_instance)
            if study is not None
        ]
        if not found:
            raise NotHere("nothing is held under these UIDs: never received, or deleted by retention")
        return found

    def _base(self, request: Request) -> str:
        """What stands before /studies in the URLs of an answer."""
        if self._site.dicomweb.public_url is not None:
            return self._site.dicomweb.public_url
        # Some clients (dicomweb-client) leave the port out of Host; a proxy that does needs public_url.
        host = request.headers["host"]
        server = request.scope.get("server")
        if request.url.port is None and server:
            host = f"{host}:{server[1]}"
        return f"{request.url.scheme}://{host}{ROOT}"


def _url(base: str, study: object, series: object = None, instance: object = None) -> str:
    url = f"{base}/studies/{study}"
    if series is not None:
        url += f"/series/{series}"
    return url if instance is None else f"{url}/instances/{instance}"


def _uid(request: Request, name: str) -> Uid | None:
    if name not in request.path_params:
        return None
    try:
        return Uid.parse(request.path_params[name])
    except ValueError as error:
        raise BadRequest(f"the {name} in the URL is no UID") from error


def _names(held: Sequence[Held]) -> list[str]:
    """Names in a ZIP file, one folder for each series. They are numbers: nothing of them is a stranger's."""
    series = {uid: n for n, uid in enumerate(dict.fromkeys(each.series.series for each in held), 1)}
    return [f"{series[each.series.series]:04d}/{n:06d}.dcm" for n, each in enumerate(held, 1)]


def _accept(request: Request) -> list[MediaRange]:
    # PS3.18 §8.3.3.1: a browser cannot always set the header.
    header = request.query_params.get("accept") or ", ".join(request.headers.getlist("accept"))
    return list(accepted(header))


def _only_json(request: Request) -> None:
    if not any(
        not each.multipart and (each.takes(JSON) or each.takes("application/json"))
        for each in _accept(request)
    ):
        raise NotAcceptable(f"this is given as {JSON} only")


def _frame_numbers(request: Request) -> list[int]:
    texts = request.path_params["frames"].split(",")
    if len(texts) > _FRAMES_MAXIMUM or not all(t.isascii() and t.isdigit() and len(t) < 10 for t in texts):
        raise BadRequest("frames are numbers from 1, with commas in between")
    return [int(text) for text in texts]


def _steps(path: str) -> list[str]:
    steps = path.split("/")
    tags, items = steps[::2], steps[1::2]
    well = all(len(tag) == 8 and all(c in "0123456789ABCDEFabcdef" for c in tag) for tag in tags)
    if (
        not well
        or len(steps) % 2 == 0
        or len(steps) > 65
        or not all(i.isascii() and i.isdigit() and len(i) < 7 for i in items)
    ):
        raise BadRequest("bulk data are named as in the metadata: tag, or tag/item/tag")
    return [step.upper() for step in steps]


def _numbers(text: str | None, count: int, name: str) -> list[float] | None:
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(abs(number) < 1e9 for number in numbers):
        raise BadRequest(f"{name} has to be {count} number{'s'[: count > 1]}")
    return numbers


def _window(text: str | None) -> list[Any] | None:
    """Centre, width and function (PS3.18 §8.3.5.1.4)."""
    if text is None:
        return None
    numbers, _, function = text.rpartition(",")
    window = _numbers(numbers, 2, "window")
    functions = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}
    if window is None or function not in functions or window[1] <= 0:
        raise BadRequest("window is centre,width,function with linear, linear-exact or sigmoid")
    return [*window, functions[function]]


def _warnings(query: Query, more: bool) -> Iterator[str]:
    if query.fuzzy:  # The very words of PS3.18 §8.3.4.2.
        yield (
            '299 wetread "The fuzzymatching parameter is not supported. '
            'Only literal matching has been performed."'
        )
    if more:
        yield '299 wetread "There are additional results that can be requested: use offset."'


def _multipart(type: str, parts: Iterable[tuple[str, str | None, Iterable[bytes]]]) -> Response:
    boundary = new_boundary()
    pieces = written(boundary, parts)
    # The head of the first part, and its first piece: what cannot be done shows there.
    first = list(itertools.islice(pieces, 2))
    return StreamingResponse(
        retrieve.gathered(itertools.chain(first, pieces)),
        media_type=f'{MULTIPART}; type="{type}"; boundary={boundary}',
    )


def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return JSONResponse(
        {"error": str(error)}, error.status, {"Retry-After": "5"} if error.status == 503 else None
    )


def _away(_request: Request, _error: Exception) -> Response:
    return JSONResponse(
        {"error": "ledger or spool cannot be reached at the moment"}, 503, {"Retry-After": "30"}
    )
