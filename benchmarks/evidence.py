"""
What the built-in models do, measured: the tables of their cards, and what happens to real images.

    python -m benchmarks.evidence                    print everything
    python -m benchmarks.evidence lung_ct            print the tables of one model
    python -m benchmarks.evidence lung_ct --write    and put them into its CARD.md
    python -m benchmarks.evidence page --write       docs/evidence.md alone
    python -m benchmarks.evidence --write            everything: what `make evidence` does

A table on real images is left as it stands in the card where the images are absent, and so is the page.
"""

import argparse
import sys
import time
from collections.abc import Sequence

from benchmarks.measured import BUILTIN, DATA, ROOT, Table, built_ins, put, tables_of
from benchmarks.real_images import evidence

PAGE = "page"  #: docs/evidence.md, beside the names of models


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("only", nargs="*", help=f"names of built-in models, or {PAGE!r}; none: all of it")
    parser.add_argument("--write", action="store_true", help="into the cards and docs/evidence.md")
    asked = parser.parse_args(arguments)
    known = [*built_ins(), PAGE]
    if strange := [name for name in asked.only if name not in known]:
        parser.error(f"{strange[0]!r} is none of {', '.join(known)}")
    for name in asked.only or known:
        began = time.perf_counter()
        if name == PAGE:
            page(write=asked.write)
        else:
            card(name, write=asked.write)
        print(f"{name}: {time.perf_counter() - began:.0f} s\n", file=sys.stderr)
    return 0


def card(model: str, *, write: bool) -> None:
    """Measure the tables of a model, and put them into its card."""
    measured: dict[str, Table] = {}
    for one in tables_of(model):
        if absent := one.absent():
            print(f"{model}, {one.name}: the real images {', '.join(absent)} are not here; it stays\n")
            continue
        measured[one.name] = table = one.table(model)
        print(table.markdown())
    path = BUILTIN / model / "CARD.md"
    text = put(path.read_text(encoding="utf-8"), measured)
    if write:
        path.write_text(text, encoding="utf-8")


def page(*, write: bool) -> None:
    """Send the real images through the running product, and write down what happened."""
    if not DATA.is_dir():
        print(f"no real images: {DATA} does not exist; docs/evidence.md stays as it is")
        return
    text = evidence()
    print(text)
    if write:
        (ROOT / "docs" / "evidence.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
