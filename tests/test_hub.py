"""Circuits on the hub, for which a folder stands here: what is uploaded, what comes back, and how it fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml
from huggingface_hub.errors import OfflineModeIsEnabled, RepositoryNotFoundError

import edge_pruning as ep
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.hub import card

GRAPH = Graph(ModelShape(1, 2))
CIRCUIT = ep.Circuit.from_scores(
    ep.EdgeScores(GRAPH, torch.arange(float(GRAPH.edge_mask.numel())).view(GRAPH.edge_mask.shape)), edges=4,
    provenance={"model": {"name": "owner/model"}, "task": {"name": "a|b <script>", "settings": {"train": 5}}},
)  # fmt: skip


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Repositories are folders in here."""
    root = tmp_path / "hub"

    class FakeApi:
        def __init__(self, token: str | None = None) -> None:
            self.token = token

        def model_info(self, name: str, *, revision: str | None = None, timeout: float) -> Any:
            if not (root / name).exists():
                response: Any = SimpleNamespace(headers={}, status_code=404, request=None)
                raise RepositoryNotFoundError("404 Client Error.\n\nRepository Not Found", response=response)
            names = [path.name for path in (root / name).iterdir()]
            return SimpleNamespace(sha="abc", siblings=[SimpleNamespace(rfilename=name) for name in names])

        def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> str:
            (root / name).mkdir(parents=True, exist_ok=exist_ok)
            return f"https://hub/{name}"

        def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
            shutil.copytree(folder_path, root / repo_id, dirs_exist_ok=True)

        def hf_hub_download(self, repo_id: str, name: str, *, revision: str) -> str:
            assert revision == "abc"  # the commit that was looked at, whatever is pushed meanwhile
            return str(root / repo_id / name)

    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    return root


def test_a_circuit_comes_back_with_its_scores_and_its_origin(hub: Path) -> None:
    assert CIRCUIT.push_to_hub("me/ioi") == "https://hub/me/ioi"
    assert sorted(path.name for path in (hub / "me/ioi").iterdir()) == [
        "README.md", "circuit.json", "circuit.svg", "scores.safetensors",
    ]  # fmt: skip
    found = ep.Circuit.from_hub("me/ioi")
    assert found == CIRCUIT
    assert torch.equal(found.scores.values, CIRCUIT.scores.values)
    assert dict(found.provenance) == dict(CIRCUIT.provenance)
    CIRCUIT.push_to_hub("me/ioi")  # a second time, into the repository that is there


def test_a_run_brings_its_evaluation_and_a_table_of_it(hub: Path) -> None:
    run = ep.discover("tracr:reverse", edges=8, method="magnitude")
    run.push_to_hub("me/reverse")
    stored = json.loads((hub / "me/reverse/evaluation.json").read_text())
    assert stored["circuit"]["kl"] == run.evaluation.circuit.kl
    text = (hub / "me/reverse/README.md").read_text()
    assert f"| edges | 8 of {run.circuit.graph.n_edges} |" in text
    assert "| circuit | 8 | " in text
    assert "| empty | 0 | " in text


def test_the_card_says_what_the_circuit_is_and_holds_no_markup_of_others() -> None:
    text = card(CIRCUIT, None, "me/ioi")
    front, body = text.removeprefix("---\n").split("---\n", 1)
    assert yaml.safe_load(front) == {
        "library_name": "edge-pruning", "tags": ["interpretability", "circuit", "edge-pruning"],
        "base_model": "owner/model",
    }  # fmt: skip
    assert "<script>" not in body.replace("\\<script\\>", "")
    assert r"| task | a\|b \<script\> (train=5) |" in body
    assert 'ep.Circuit.from_hub("me/ioi")' in body


def test_a_repository_that_is_not_there_or_holds_something_else(hub: Path) -> None:
    with pytest.raises(ValueError, match=r"could not download from me/none: 404 Client Error; check the name"):
        ep.Circuit.from_hub("me/none")
    (hub / "me/other").mkdir(parents=True)
    (hub / "me/other/model.bin").write_text("")
    with pytest.raises(ValueError, match=r"could not download from me/other: the repository holds model.bin; expected"):
        ep.Circuit.from_hub("me/other")


@pytest.mark.parametrize(("error", "message"), [
    (ConnectionError("no route to host\nand more"), r"the hub does not answer \(no route to host\)"),
    (OfflineModeIsEnabled("offline"), r"offline mode is on \(HF_HUB_OFFLINE\)"),
])
def test_without_a_network_there_is_one_request_and_one_line(
    hub: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    asked = []

    def fails(self: Any, name: str, **how: Any) -> None:
        asked.append(name)
        raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fails)
    for call in (ep.Circuit.from_hub, CIRCUIT.push_to_hub):
        with pytest.raises(ValueError, match=message) as refused:
            call("me/ioi")
        assert "\n" not in str(refused.value)
    assert asked == ["me/ioi", "me/ioi"]
    assert not hub.exists()
