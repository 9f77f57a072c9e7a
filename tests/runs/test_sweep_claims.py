"""Who works on which cell of a sweep: claims, and what becomes of those of dead workers."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from claiming import someone_else

from edge_pruning import files
from edge_pruning.sweep import claims as claims_file
from edge_pruning.sweep.claims import Claims, Held, Lost, dead_ends


def test_one_worker_gets_a_cell_and_another_one_after_it(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "claims")
    claim = claims.take("a", "nothing")
    assert claim is not None
    assert claims.take("a", "nothing") is None
    with Held(claims, claim).kept():
        assert claims.of("a")[-1].is_alive(claims.now())
    following = claims.take("a", "nothing")
    assert following is not None
    assert following.number == 2
    assert [len(found) for found in claims.all().values()] == [2]


def test_of_many_that_try_at_once_one_gets_it(tmp_path: Path) -> None:
    claims, won = Claims(tmp_path / "claims"), Counter[str]()
    barrier = threading.Barrier(4)

    def race() -> None:
        barrier.wait()
        for i in range(25):
            if claims.take(f"c{i}", "nothing"):
                won[f"c{i}"] += 1

    racers = [threading.Thread(target=race) for _ in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert won == Counter(f"c{i}" for i in range(25))


def test_a_dead_workers_cell_is_taken_over(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "claims")
    here = claims.take("here", "nothing")
    assert here is not None
    assert here.content is not None
    files.write_json(here.path, {**here.content, "started": here.content["started"] - 100})  # another process's number
    assert claims.take("here", "nothing") is not None
    there = someone_else(claims, "there")
    assert claims.take("there", "nothing") is None
    long_ago = claims.now() - claims_file.SILENCE - 1
    os.utime(there, (long_ago, long_ago))
    taken = claims.take("there", "nothing")
    assert taken is not None
    assert taken.number == 2
    (tmp_path / "claims" / "half.1").write_text("{")  # its worker died while it wrote
    assert claims.take("half", "nothing") is None
    os.utime(tmp_path / "claims" / "half.1", (long_ago, long_ago))
    assert claims.take("half", "nothing") is not None


def test_a_worker_that_was_thought_dead_notices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims_file, "BEAT", 0.01)
    claims = Claims(tmp_path / "claims")
    claim = claims.take("a", "nothing")
    assert claim is not None
    before = claim.path.stat().st_mtime_ns
    with Held(claims, claim).kept() as held:
        held.check()
        (tmp_path / "claims" / "a.2").write_text("{}")
        with pytest.raises(Lost):  # noqa: PT012
            for _ in range(500):
                time.sleep(0.01)
                held.check()
    assert claim.path.stat().st_mtime_ns > before  # it beat
    assert claims.of("a")[0].ended is False


def test_deaths_count_only_at_one_place(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "claims")
    for found in ("nothing", "step 5", "step 5"):
        path = someone_else(claims, "a", found=found)
        os.utime(path, (1.0, 1.0))
    assert dead_ends(claims.of("a"), "step 5", claims.now()) == 2
    assert dead_ends(claims.of("a"), "step 9", claims.now()) == 0
    someone_else(claims, "a", ended=5.0)
    assert dead_ends(claims.of("a"), "step 5", claims.now()) == 0
