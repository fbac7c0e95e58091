"""`frameloom eval verify|identify`: what is reported is what the saved scores say, and the models are good."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from engines.engine import EngineOptions
from pipeline.errors import ConfigError, GalleryError
from tools.cli import app
from tools.evaluate_faces import evaluate_identification, evaluate_pairs, read_csv, write_csv
from tools.face_images import FaceModels

SMALL = FaceModels("yunet", "mobilefacenet", EngineOptions(), short_side=256)
KINDS = 60
"""Pairs of each kind."""
PEOPLE, STRANGERS = 10, 40
Rows = list[dict[str, str]]


@pytest.fixture(autouse=True, scope="module")
def at_hand(shared: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRAMELOOM_MIRROR", str(shared / "models"))
        patch.setenv("FRAMELOOM_OFFLINE", "1")
        yield


@pytest.fixture(scope="module")
def lfw(shared: Path) -> Path:
    return shared / "data" / "faces" / "lfw"


def rows_of(path: Path) -> Rows:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# ---- 1:1


@pytest.fixture(scope="module")
def verified(lfw: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Rows, str]:
    """The report on the first pairs of both kinds and one with an empty picture; the saved rows, and their header."""
    folder = tmp_path_factory.mktemp("verify")
    rows = rows_of(lfw / "pairs.csv")
    chosen = [row for flag in "10" for row in [each for each in rows if each["same"] == flag][:KINDS]]
    (folder / "images_deepfunneled").symlink_to(lfw / "images_deepfunneled")
    cv2.imwrite(str(folder / "blank.png"), np.full((250, 250, 3), 127, np.uint8))
    chosen.insert(1, {"image_a": "blank.png", "image_b": chosen[0]["image_b"], "same": "1"})
    write_csv(folder / "pairs.csv", ("image_a", "image_b", "same"), [list(row.values()) for row in chosen])
    report = evaluate_pairs(folder / "pairs.csv", folder, SMALL, save=folder / "scores.csv")
    return report, rows_of(folder / "scores.csv"), (folder / "scores.csv").read_text().partition("\n")[0].strip()


def test_the_small_models_tell_lfw_pairs_apart(verified: tuple[dict[str, Any], Rows, str]) -> None:
    report = verified[0]
    assert report["accuracy"] >= 0.97
    assert report["AUC"] > 0.98
    assert (report["pairs"], report["not compared"]) == (2 * KINDS + 1, 1)
    assert (report["without a face"], report["first of them"]) == (1, ["blank.png: no face"])
    assert report["models"] == "yunet at short side 256, mobilefacenet, mean of face and mirror image"


def test_every_score_is_saved_and_a_picture_without_a_face_has_none(
    verified: tuple[dict[str, Any], Rows, str], lfw: Path
) -> None:
    _, saved, header = verified
    assert header == "image_a,image_b,same,similarity"
    assert [row["similarity"] == "" for row in saved] == [False, True] + [False] * (2 * KINDS - 1)
    assert saved[1]["image_a"] == "blank.png"
    assert saved[0] | {"similarity": ""} == rows_of(lfw / "pairs.csv")[0] | {"similarity": ""}
    assert all(-1 <= float(row["similarity"]) <= 1 for row in saved if row["similarity"])


def test_the_figures_follow_from_the_saved_scores(verified: tuple[dict[str, Any], Rows, str]) -> None:
    """Counted here by hand; a pair without a score is one of two people."""
    report, saved, _ = verified
    scores = np.array([float(row["similarity"] or -2) for row in saved])
    same = np.array([row["same"] == "1" for row in saved])
    wins = (scores[same][:, None] > scores[~same]) + 0.5 * (scores[same][:, None] == scores[~same])
    assert report["AUC"] == pytest.approx(wins.mean(), abs=1e-6)
    for far in (0.01, 0.001):
        strictest = scores[~same].max()  # of 60 not one may be accepted
        assert report[f"TAR at FAR {far:g}"] == pytest.approx((scores[same] > strictest).mean())
        assert f"in {KINDS} comparisons only show" in report[f"threshold at FAR {far:g}"]
    rates = [((scores[same] < each).mean(), (scores[~same] >= each).mean()) for each in np.sort(scores)]
    assert min(max(pair) for pair in rates) + 0.02 >= report["EER"] >= min(min(pair) for pair in rates)
    assert report["accuracy"] == pytest.approx(by_folds(scores, same), abs=1e-9)


def by_folds(scores: np.ndarray, same: np.ndarray) -> float:
    """Ten blocks of each kind in turn: the threshold that is best on nine parts judges the tenth."""
    results = []
    folds = list(zip(*(np.array_split(np.flatnonzero(same == kind), 10) for kind in (True, False)), strict=True))
    for fold in folds:
        held_out = np.concatenate(fold)
        rest = np.setdiff1d(np.arange(len(scores)), held_out)
        accuracies = [balanced(scores[rest] >= each, same[rest]) for each in np.unique(scores)]
        best = np.flatnonzero(accuracies == np.max(accuracies)).max()
        results.append(balanced(scores[held_out] >= np.unique(scores)[best], same[held_out]))
    return float(np.mean(results))


def balanced(accepted: np.ndarray, same: np.ndarray) -> float:
    return round(float((accepted[same].mean() + (~accepted[~same]).mean()) / 2), 12)


def test_the_command_prints_the_report(lfw: Path, tmp_path: Path) -> None:
    rows = rows_of(lfw / "pairs.csv")
    chosen = [*rows[:3], *[row for row in rows if row["same"] == "0"][:3]]
    write_csv(tmp_path / "pairs.csv", ("image_a", "image_b", "same"), [list(row.values()) for row in chosen])
    options = ["--finder", "yunet", "--embedder", "mobilefacenet", "--short-side", "256", "--no-mirrored"]
    done = CliRunner().invoke(
        app, ["eval", "verify", "--pairs", str(tmp_path / "pairs.csv"), "--images", str(lfw), *options],
        catch_exceptions=False,
    )  # fmt: skip
    assert done.exit_code == 0
    lines = {line[:24].rstrip(): line[25:] for line in done.output.splitlines()}
    assert (lines["pairs"], lines["not compared"], lines["AUC"]) == ("6", "0", "1.0000")
    assert lines["models"] == "yunet at short side 256, mobilefacenet"
    assert "first of them" not in lines


# ---- 1:N


@pytest.fixture(scope="module")
def identified(lfw: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Rows, str]:
    """The report on the first people and strangers, and a probe of a known one that shows nobody."""
    folder = tmp_path_factory.mktemp("identify")
    rows = rows_of(lfw / "identification.csv")
    known = list(dict.fromkeys(row["identity"] for row in rows if row["role"] == "gallery"))[:PEOPLE]
    chosen = [row for row in rows if row["identity"] in known]
    chosen += [row for row in rows if row["role"] == "probe_unknown"][:STRANGERS]
    chosen.append({"image": "gone.jpg", "identity": known[0], "role": "probe"})
    write_csv(folder / "protocol.csv", ("image", "identity", "role"), [list(row.values()) for row in chosen])
    report = evaluate_identification(folder / "protocol.csv", lfw, SMALL, save=folder / "scores.csv")
    return report, rows_of(folder / "scores.csv"), (folder / "scores.csv").read_text().partition("\n")[0].strip()


def test_known_people_are_found_and_strangers_are_not(identified: tuple[dict[str, Any], Rows, str]) -> None:
    report = identified[0]
    assert (report["people in the gallery"], report["probes"], report["unknown probes"]) == (PEOPLE, 41, STRANGERS)
    assert report["rank 1"] >= 39 / 41
    assert report["TPIR at FPIR 0.01"] >= 0.9
    assert report["first of them"] == ["gone.jpg: does not exist"]


def test_the_figures_of_identification_follow_from_the_saved_scores(
    identified: tuple[dict[str, Any], Rows, str],
) -> None:
    report, saved, header = identified
    assert header == "image,role,identity,name,similarity"
    assert [row["role"] for row in saved] == ["probe"] * 40 + ["probe_unknown"] * STRANGERS + ["probe"]
    assert saved[-1] | {"image": ""} == {
        "image": "", "role": "probe", "identity": saved[0]["identity"], "name": "", "similarity": ""
    }  # fmt: skip
    probes = [row for row in saved if row["role"] == "probe"]
    right = [float(row["similarity"]) for row in probes if row["name"] == row["identity"]]
    strangers = sorted((float(row["similarity"]) for row in saved if row["role"] == "probe_unknown"), reverse=True)
    assert report["rank 1"] == len(right) / len(probes)
    for fpir, allowed in ((0.01, 0), (0.05, 2)):
        found = sum(score > strangers[allowed] for score in right)
        assert report[f"TPIR at FPIR {fpir:g}"] == found / len(probes)
        assert report[f"threshold at FPIR {fpir:g}"].endswith(f"({allowed} of {STRANGERS} unknown accepted)")
        threshold = float(report[f"threshold at FPIR {fpir:g}"].split()[0])
        assert threshold == pytest.approx(strangers[allowed], abs=1e-4)


def test_more_gallery_pictures_of_a_person_may_stand_anywhere_in_the_protocol(lfw: Path, tmp_path: Path) -> None:
    rows = rows_of(lfw / "identification.csv")
    known = list(dict.fromkeys(row["identity"] for row in rows))[:3]
    own = {name: [row for row in rows if row["identity"] == name] for name in known}
    gallery = [own[name][picture] | {"role": "gallery"} for picture in (0, 1) for name in known]
    probes = [own[name][2] | {"role": "probe"} for name in known]
    write_csv(tmp_path / "p.csv", ("image", "identity", "role"), [list(row.values()) for row in gallery + probes])
    report = evaluate_identification(tmp_path / "p.csv", lfw, SMALL, save=tmp_path / "s.csv")
    assert (report["people in the gallery"], report["probes"], report["rank 1"]) == (3, 3, 1)
    assert [row["name"] for row in rows_of(tmp_path / "s.csv")] == known
    assert "TPIR at FPIR 0.01" not in report  # nobody is unknown


def test_the_command_of_identification_prints_the_report(lfw: Path, tmp_path: Path) -> None:
    rows = rows_of(lfw / "identification.csv")[:10]
    write_csv(tmp_path / "p.csv", ("image", "identity", "role"), [list(row.values()) for row in rows])
    options = ["--finder", "yunet", "--embedder", "mobilefacenet", "--save", str(tmp_path / "s.csv")]
    done = CliRunner().invoke(
        app, ["eval", "identify", "--protocol", str(tmp_path / "p.csv"), "--images", str(lfw), *options],
        catch_exceptions=False,
    )  # fmt: skip
    assert done.exit_code == 0
    assert "people in the gallery    2\n" in done.output
    assert "rank 1                   1.0000\n" in done.output
    assert len(rows_of(tmp_path / "s.csv")) == 8


# ---- what cannot be evaluated


@pytest.fixture
def nobody(tmp_path: Path) -> Path:
    """A folder with pictures of nobody."""
    for name in "abcd":
        cv2.imwrite(str(tmp_path / f"{name}.jpg"), np.full((100, 100, 3), 127, np.uint8))
    return tmp_path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "p.csv has no column 'image_a'; its first line must be image_a,image_b,same"),
        (b"image_a,image_b\na,b\n", "p.csv has no column 'same'"),
        (b"image_a,image_b,same\n", "p.csv has no rows"),
        (b"\xff\xfe\x00\x01", "p.csv cannot be read as CSV"),
        (b"image_a,image_b,same\na.jpg,b.jpg,yes\n", "same is 'yes', it must be 0 or 1"),
        (b"image_a,image_b,same\na.jpg,b.jpg\n", "same is '', it must be 0 or 1"),
        (b"image_a,image_b,same\na.jpg,b.jpg,1\nc.jpg,d.jpg,0\n", "p.csv: not one pair could be compared"),
        (b"image_a,image_b,same\nx.jpg,y.jpg,1\n", "x.jpg does not exist, nor does any other of the pictures"),
    ],
)
def test_a_pair_file_that_is_none_is_refused(nobody: Path, content: bytes, message: str) -> None:
    (nobody / "p.csv").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        evaluate_pairs(nobody / "p.csv", nobody, SMALL)
    assert message in str(caught.value)


def test_pairs_of_one_kind_say_nothing_and_it_is_said(lfw: Path, tmp_path: Path) -> None:
    rows = rows_of(lfw / "pairs.csv")[:2]
    write_csv(tmp_path / "p.csv", ("image_a", "image_b", "same"), [list(row.values()) for row in rows])
    with pytest.raises(GalleryError, match="none of the 2 pairs is of two people"):
        evaluate_pairs(tmp_path / "p.csv", lfw, SMALL)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,identity\na,b\n", "p.csv has no column 'role'"),
        ("image,identity,role\na.jpg,ann,enrol\n", "the role 'enrol' is none of gallery, probe, probe_unknown"),
        ("image,identity,role\na.jpg,ann,probe\n", "nobody is in the gallery"),
        ("image,identity,role\na.jpg,ann,gallery\nb.jpg,ann,probe\n", "nobody is in the gallery"),
    ],
)
def test_a_protocol_that_is_none_is_refused(nobody: Path, content: str, message: str) -> None:
    (nobody / "p.csv").write_text(content)
    with pytest.raises(ConfigError) as caught:
        evaluate_identification(nobody / "p.csv", nobody, SMALL)
    assert message in str(caught.value)


def test_files_of_spreadsheets_are_read(tmp_path: Path) -> None:
    """With a byte order mark, other columns in another order, quotes, and line ends of Windows."""
    (tmp_path / "p.csv").write_bytes('\ufeffnote,same,image_b,image_a\r\n"x, y",1,"b, c.jpg",ü.jpg\r\n'.encode())
    assert read_csv(tmp_path / "p.csv", ("image_a", "image_b", "same")) == [
        {"image_a": "ü.jpg", "image_b": "b, c.jpg", "same": "1"}
    ]


def test_a_file_that_is_missing_or_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.csv cannot be read as CSV: No such file"):
        read_csv(tmp_path / "gone.csv", ("a",))
    with pytest.raises(ConfigError, match=r"--save .*gone/s\.csv: No such file"):
        write_csv(tmp_path / "gone" / "s.csv", ("a",), [["1"]])
