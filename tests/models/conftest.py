"""Two models, and phantoms that many tests look at."""

import pytest

from models.builtin.lung_ct.model import LungCT
from models.builtin.nodule_ct.model import NoduleCT
from models.contract import Context
from models.training.phantoms import Phantom, chest


@pytest.fixture(scope="session")
def lung_ct() -> LungCT:
    model = LungCT()
    model.load("cpu")
    return model


@pytest.fixture(scope="session")
def nodule_ct() -> NoduleCT:
    model = NoduleCT()
    model.load("cpu")
    return model


@pytest.fixture(scope="session")
def ct() -> Context:
    return Context(headers={"Modality": "CT"})


@pytest.fixture(scope="session")
def whole_chest() -> Phantom:
    return chest((75, 160, 160), seed=1)
