"""The first `wetread.toml`: what most sites change is there to be changed, each line with its reason.

What stands here uncommented is what happens without a file; what is commented out shows the default value.
A test reads both back and compares them with the settings' own defaults.
"""

from pathlib import Path

from console.built_in_rules import built_in, commented
from ledger.errors import SiteError


class AlreadyThere(SiteError):
    """There is a settings file already; it is never overwritten."""


def write_settings(path: Path) -> None:
    """Write the commented file. Raises `AlreadyThere`."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text())
    except FileExistsError:
        raise AlreadyThere(f"{path} is there already and stays as it is; move it away first") from None
    except OSError as error:
        raise SiteError(f"{path} cannot be written: {error.strerror}") from error


def text() -> str:
    """The whole file."""
    rules = commented(built_in(), without="lung_ct")
    return TEXT.replace(_RULES, f"# The other models that come with Wetread:\n\n{rules}\n\n" if rules else "")


_RULES = "# RULES\n"

TEXT = """\
# Wetread: the settings of one site. A misspelt key stops the start and is named.
# Relative paths are relative to this file. Lines that are commented out show the default.
# After a change: stop `wetread serve` with Ctrl-C (nothing is lost) and start it again.

[site]
name = "Wetread"        # shown to people, never sent
# time_zone = "Europe/Berlin"   # of results whose images name none; default: this machine's
data = "wetread-data"   # received images, results, the ledger: on a disk with room for a week of studies

# -------------------------------------------------------- the node: how the PACS and the scanners reach us

[node]
ae_title = "WETREAD"
port = 11112            # registered for DICOM; 104 needs root
# Plain DICOM has no passwords, so only this machine can connect at first. To let others in:
# host = "0.0.0.0"
host = "127.0.0.1"
# "any": whoever can connect. "known": only the [[peer]] entries below, from their addresses.
callers = "any"

# DICOM over TLS beside it: docs/operating/tls.md. Renewed files count without a restart.
# [node.tls]
# port = 2762                    # registered as dicom-tls
# certificate_file = "/etc/wetread/node.pem"
# key_file = "/etc/wetread/node.key"
# ca_file = "/etc/wetread/hospital-ca.pem"   # who has to vouch for whoever calls
# profile = "B.12"               # or "B.13", a closed list of algorithms (PS3.15)
# client_certificate = "required"
# plain = true                   # false: no DICOM without TLS any more

# Viewers read studies and results over DICOMweb, at http://127.0.0.1:11180/dicom-web.
# [dicomweb]
# enabled = true
# port = 11180
# host = "127.0.0.1"           # others need a token: printf %s TOKEN | sha256sum
# origins = []                 # ["https://viewer.hospital.example"]: web pages that may read from a browser

# The console: what is happening, why, and what can be done about it, at http://127.0.0.1:11181.
# [console]
# enabled = true
# port = 11181
# host = "127.0.0.1"           # others need TLS: [console.tls], or public_url of a proxy that has it
# public_url = "https://wetread.hospital.example"

# When is a study complete? DICOM does not say. A late image opens it again, and its result is replaced.
[closing]
quiet_s = 5.0           # nothing new, and no association open that sent to it
quiet_open_s = 30.0     # nothing new although such an association is still open
longest_s = 900.0       # whatever happens
# An archive that knows how many images there are is better than any pause: see `count` below.
# counted_at = "archive"                           # ask it about every study, whoever sent it
# witnesses = ["count", "commitment", "geometry"]  # whom to believe besides the pauses

# The images are a working copy: they go when every result of the study is where it belongs.
[retention]
keep_days = 7.0
keep_at_least_days = 1.0   # even when the disk gets full

# --------------------------------------------------------------- peers: who gets results, and who may send

# [[peer]]
# name = "archive"             # what rules call it
# ae_title = "PACS"
# host = "pacs.hospital.example"
# port = 104
# confirm = "best"             # what proves that it has a result. "commitment": it has to answer for it by
                               # storage commitment; "find": it is asked; "answer": it said yes. "best": the
                               # first of these that it offers
# superseded = "reject"        # after a late image: the older result there is hidden by a rejection note;
                               # "replace": removed for good; "keep": both stay, where notes do no good
# retrieve = "none"            # or "get" (C-GET), "wado" (over the web), or "move" (C-MOVE: enter our three
                               # values over there): fetch what a study lacks, and earlier studies
# addresses = ["10.1.2.0/24"]  # it may call from here only; none: from anywhere
# associations_max = 8         # at once; what else one sender may do: [node], [quota] and [peer.quota]
# count = "find"               # ask it by C-FIND ("qido": over the web) how many images a study has: as many
                               # as here, and the study is complete at once; more, and it is waited for
# given_up = true              # of a run that was given up it gets a report that says NOT ANALYSED, and why
# [peer.profile]               # what it can show; or, beside its host, in a word: profile = "weasis"
# like = "ohif"                # or "slicer", "weasis", "plain-pacs", "air": as there, and ...
# with = ["summary", "structure-set"]   # ... also a page and contours; without = [] takes something away
# segmentation = "labelmap"    # or "binary", which every viewer shows
# [peer.profile.instead]       # where it refuses a kind of object
# report = ["comprehensive", "enhanced"]   # the same report in an older form
# segmentation = ["nothing"]   # the report goes all the same
# [peer.web]                   # the same archive, or another one, over DICOMweb: results go by STOW-RS
# url = "https://pacs.hospital.example/dicom-web"
# auth = "bearer"              # or "basic" (login_file: user:password), or "certificate" (certificate_file)
# token_file = "/run/secrets/pacs_token"   # read anew for every exchange, so it may be renewed
# ca_file = "/etc/ssl/hospital-ca.pem"     # who vouches for the server; none: whom this machine trusts

# [peer.tls]                   # it is called over TLS, and has to call over TLS
# fingerprints = []            # of its certificate: openssl x509 -noout -fingerprint -sha256 -in FILE
# names = ["pacs.hospital.example"]   # or: one of these in its certificate (Subject Alternative Name)
# server_name = "pacs.hospital.example"   # what its certificate is for when we call; none: its host
# [peer.user]                  # it has to introduce itself as this user (User Identity Negotiation)
# name = "pacs"
# passcode_file = "/run/secrets/pacs_passcode"

# [[peer]]
# name = "ct1"
# ae_title = "CT1"
# host = "ct1.hospital.example"
# port = 104
# send = false
# counted_at = "archive"       # the archive gets the images of this scanner too, and can count them
# quiet_s = 20.0               # it pauses longer than others (quiet_open_s and longest_s likewise)

# Try it with: wetread echo archive

# ----------------------------------------------------- rules: which series go to which model, and where to

# Every condition has to hold. A rule without destinations is a shadow run: the result stays here.
[[rule]]
name = "chest CT"
model = "lung_ct"              # `wetread models` lists what is installed
modality = "CT"
body_part = ["CHEST", "THORAX", "LUNG", "CHESTABDOMEN", "CHESTABDPELVIS"]
at_least = 20                  # images; fewer is a scout
choose = "thinnest"            # of several reconstructions of one study: one result, not five
deliver_to = []                # ["archive"]

# RULES
# With `when = "series"` a rule looks at each series as soon as that is complete, and not only when its study
# is. It cannot `choose` then, for that compares the series of a whole study.
# More conditions: description, study_description, protocol and attributes (regular expressions),
# calling (AE titles), at_most, spacing_min_mm, spacing_max_mm; and priority = "stat", and settings for the
# model. And earlier studies of the patient, fetched beside the job, which does not wait for them:
# with priors = { peer = "archive", number = 1, within_days = 1825, modality = ["CT"] }

# ---------------------------------------- who is told that a run has ended: docs/operating/notifications.md

# [[notify]]
# name = "RIS"
# kind = "hl7v2"               # ORU^R01 over MLLP or HTTP; or "fhir", a DiagnosticReport of FHIR R4
# archive = "archive"          # told once this peer has results; none: once nothing is on its way any more
# events = ["found", "nothing", "refused", "given up"]
# viewer = "https://ohif.example/viewer?StudyInstanceUIDs={study}"   # a link to the images
# [notify.to]
# url = "mllps://engine.hospital.example:2575"   # or mllp://, https://; patients' names go over it
# ca_file = "/etc/ssl/hospital-ca.pem"

# Try it with: wetread notify test RIS

# [[notify]]
# name = "on-call"
# kind = "email"               # or "webhook", a signed POST to any program; neither names a patient
# events = []                  # no ends of runs, only:
# alarms = ["all"]             # or some: "node down", "disk full", "queue", "peer away", "job parked"
# sender = "wetread@hospital.example"
# recipients = ["imaging-it@hospital.example"]
# [notify.to]
# url = "smtp://mail.hospital.example"   # with STARTTLS; smtps:// is TLS at once

# ------------------------------------- whose list of work is performed: docs/operating/worklists.md

# [peer.worklist]                  # below the [[peer]] that keeps the list
# rules = { "113106^DCM" = "chest CT" }   # Scheduled Workitem Code -> the [[rule]] whose results it waits for

# --------------------------------------- how each study went, step by step: docs/operating/monitoring.md

# [telemetry]                  # pip install 'wetread[telemetry]'
# otlp_url = "http://127.0.0.1:4318/v1/traces"

# ----------------------------------------------------- how full the disk may get, and how the work is done

# [spool]
# soft_percent = 80.0          # finished studies go early from here on
# hard_percent = 90.0          # nothing more is taken in; senders are asked to try again
# reserve_bytes = 10737418240  # the same with less than this left

# [worker]
# device = "auto"              # "cpu", "cuda:0", or the GPU if there is one
# attempts_max = 3             # a study that kills its worker three times is parked

# ------------------------------------------------ models of your own: `wetread models add` installs them here

# [models]
# folder = "wetread-data/models"
# allow_unsigned = false       # true: also models that are code, without the signature of a trusted key
# trusted_keys = {}            # { hospital = "..." }, as `wetread models keygen` prints it
# licence_keys = {}            # { model = "..." }, where a licence asks for one

# --------------------------------------------------------------- several hosts (one machine needs neither)

# [ledger]
# url = "postgresql+pg8000://wetread:password@db.hospital.example:5432/wetread"
# url_file = "/run/secrets/ledger_url"   # the same, kept out of this file

# [queue]
# url = "rediss://:password@queue.hospital.example:6379/0"
# url_file = "/run/secrets/queue_url"
"""
