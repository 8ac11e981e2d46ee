"""Rules in a real browser: a rule is changed with the keyboard alone, tried on files, and put in force."""

from pathlib import Path

import numpy as np
import pytest

from console.web.access.visitor import Visitor
from ledger.account import Role
from tests.console.web.conftest import Desk
from tests.dicom_node.test_rule_book import rule, save
from tests.ledger.site import close, receive
from tests.peers.browser import chromium, tab
from tests.worker.series import Series


@pytest.mark.viewer
def test_an_administrator_changes_tries_and_saves_a_rule(desk: Desk, tmp_path: Path) -> None:
    desk.visitor = Visitor(name="anna", role=Role.ADMINISTRATOR, csrf="token")
    save(desk.ledger, rule("chest", body_part=["CHEST"]))
    close(desk.ledger, receive(desk.ledger, "1.2.3"))
    files = Series(np.zeros((3, 8, 8), np.int16), step=(0.0, 0.0, 2.0)).write(tmp_path)
    said: list[str] = []
    with chromium() as browser:
        opened = tab(browser)
        page = opened.page
        page.on("console", lambda message: said.append(message.text))
        page.goto(f"{desk.url}/rules")

        page.set_input_files("input[type=file]", [str(path) for path in files])
        page.click("text=Try the rules")
        opened.reads("Body part", "3 images", "not taken")

        page.goto(f"{desk.url}/rules")
        page.get_by_role("button", name="Edit").press("Enter")
        page.get_by_role("button", name="Change chest").press("Enter")
        page.get_by_label("Body part").fill("")
        page.get_by_label("At least (images)").fill("three")
        page.get_by_role("button", name="Keep", exact=True).press("Enter")
        opened.reads("This cannot be kept yet.", "(it says 'three')")
        field = page.get_by_label("At least (images)")
        assert field.get_attribute("aria-invalid") == "true"
        assert "rule-at_least-wrong" in (field.get_attribute("aria-describedby") or "")

        field.fill("3")
        page.get_by_role("button", name="Keep", exact=True).press("Enter")
        page.get_by_role("button", name="Review and save").press("Enter")
        page.get_by_role("button", name="Try it on the last 7 days").press("Enter")
        opened.reads("1 would be treated otherwise, with 1 jobs in the place of 0")
        page.get_by_label("Why (kept with the version)").fill("all chests")
        page.get_by_role("button", name="Put in force").press("Enter")
        opened.reads("Version 2 is saved.", "all chests", "at least 3")

    assert opened.errors == []
    assert said == []
    latest = desk.ledger.latest_rule_set()
    assert latest is not None
    assert latest.rules == ({"name": "chest", "model": "lung_ct", "modality": ["CT"], "at_least": 3},)
