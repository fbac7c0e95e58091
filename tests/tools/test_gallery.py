"""`frameloom gallery`: what each command prints, changes and refuses. See tests/e2e/test_faces.py too."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from pipeline.errors import ConfigError, GalleryError
from pipeline.gallery.records import EmbedderId, Encoding
from pipeline.gallery.store import GalleryFile
from tools.cli import app

SMALL = ("--finder", "yunet", "--embedder", "mobilefacenet", "--backend", "onnxruntime")


@pytest.fixture(autouse=True)
def desk(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.setenv("FRAMELOOM_MIRROR", str(shared / "models"))
    monkeypatch.setenv("FRAMELOOM_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def johns(shared: Path) -> dict[str, list[Path]]:
    return {person.name: sorted(person.iterdir()) for person in sorted((shared / "data/faces/johns").iterdir())}


@pytest.fixture(scope="module")
def three_people(johns: dict[str, list[Path]], shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of three people with three pictures each."""
    folder = tmp_path_factory.mktemp("people")
    for name in ("John_Salley", "John_Savage", "John_Simm"):
        (folder / name).mkdir()
        for path in johns[name][:3]:
            shutil.copy(path, folder / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRAMELOOM_MIRROR", str(shared / "models"))
        patch.setenv("FRAMELOOM_OFFLINE", "1")
        done = gallery("add", "--dir", folder, "--gallery", folder / "g.db", *SMALL)
    assert done.output.splitlines()[-1].startswith("9 pictures of 3 people added to "), done.output
    return folder / "g.db"


@pytest.fixture
def people(three_people: Path, desk: Path) -> Path:
    """A copy of it, as `gallery.db`."""
    return Path(shutil.copy(three_people, desk / "gallery.db"))


def gallery(*arguments: object) -> Result:
    """Run a command; errors come out as they are."""
    return CliRunner().invoke(app, ["gallery", *map(str, arguments)], catch_exceptions=False)


def names(path: Path = Path("gallery.db")) -> list[str]:
    with GalleryFile.open(path, read_only=True) as file:
        return [person.name for person in file.people()]


# ---- add


@pytest.mark.parametrize(
    "arguments",
    [(), ("ann",), ("--dir", "people", "ann", "x.jpg"), ("--dir", "people", "ann")],
    ids=["nothing", "name alone", "name, picture and folder", "name and folder"],
)
def test_either_a_name_and_pictures_or_a_folder(desk: Path, arguments: tuple[str, ...]) -> None:
    """With a folder, names are those of its folders: one that is given besides would be ignored."""
    (desk / "people" / "eve").mkdir(parents=True)
    (desk / "people" / "eve" / "1.jpg").write_bytes(b"")
    with pytest.raises(ConfigError, match="give a name and pictures, or --dir FOLDER"):
        gallery("add", *arguments, *SMALL)
    assert not (desk / "gallery.db").exists()


def test_adding_says_what_was_added_and_what_was_refused(desk: Path, johns: dict[str, list[Path]]) -> None:
    done = gallery("add", "simm", johns["John_Simm"][0], "gone.jpg", *SMALL)
    assert done.exit_code == 0
    assert done.output.splitlines() == [
        "refused  gone.jpg: does not exist",
        "added    simm: 1 picture",
        "1 picture of 1 person added to gallery.db, 1 refused",
    ]
    nothing = gallery("add", "simm", "gone.jpg", *SMALL)
    assert nothing.exit_code == 1
    assert nothing.output.splitlines()[-1] == "0 pictures of 0 people added to gallery.db, 1 refused"


def test_the_gallerys_own_encoder_is_taken_and_no_other(people: Path, johns: dict[str, list[Path]]) -> None:
    added = gallery("add", "shimkus", johns["John_Shimkus"][0], "--finder", "yunet")
    assert "added    shimkus: 1 picture" in added.output
    with sqlite3.connect(people) as file:  # as if made by another file of that name
        file.execute("UPDATE gallery SET embedder_sha256 = ?", ("b" * 64,))
    file.close()
    for arguments in (("add", "eve", johns["John_Schneider"][0]), ("identify", johns["John_Simm"][4])):
        with pytest.raises(GalleryError, match="cannot be compared with those of mobilefacenet"):
            gallery(*arguments, *SMALL)


# ---- list, rename, remove


def test_people_are_listed_with_counts_and_qualities(people: Path) -> None:
    lines = gallery("list").output.splitlines()
    assert lines[0].split() == ["name", "encodings", "best", "quality", "since"]
    for line, name in zip(lines[1:4], ("John_Salley", "John_Savage", "John_Simm"), strict=True):
        assert re.fullmatch(rf"{name} +3 +(0\.[5-9]\d|1\.00) +\d{{4}}-\d\d-\d\dT[\d:+]+ *", line)
    assert lines[4].startswith("3 people, encodings of mobilefacenet (sha256 b7120c095d60, cosine, 128 numbers)")
    assert lines[5] == "not calibrated: frameloom gallery calibrate"


def test_the_list_is_json_on_request(people: Path) -> None:
    listed = json.loads(gallery("list", "--json").output)
    assert listed["embedder"] == "mobilefacenet"
    assert [(each["name"], each["encodings"]) for each in listed["people"]] == [
        ("John_Salley", 3), ("John_Savage", 3), ("John_Simm", 3)
    ]  # fmt: skip


def test_a_name_with_brackets_is_no_markup(desk: Path) -> None:
    embedder = EmbedderId("mobilefacenet", "a" * 64, "cosine", 128)
    with GalleryFile.open(desk / "gallery.db", embedder, create=True) as file:
        file.add("[red]ann[/red]", [Encoding(np.eye(1, 128, dtype=np.float32)[0], 0.9, "", "", "")])
    assert "[red]ann[/red]" in gallery("list").output
    assert gallery("rename", "[red]ann[/red]", "[bold]").output == "renamed [red]ann[/red] to [bold]\n"


def test_a_person_is_renamed_and_removed(people: Path) -> None:
    assert gallery("rename", "John_Simm", "Zoë 猫").output == "renamed John_Simm to Zoë 猫\n"
    assert names() == ["John_Salley", "John_Savage", "Zoë 猫"]
    assert gallery("remove", "Zoë 猫").output == "removed Zoë 猫 from gallery.db\n"
    assert names() == ["John_Salley", "John_Savage"]
    assert "John_Simm" not in people.read_bytes().decode("latin-1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("remove", "nobody"), "gallery.db has nobody named 'nobody': see `frameloom gallery list`"),
        (("rename", "nobody", "x"), "gallery.db has nobody named 'nobody'"),
        (("rename", "John_Simm", "John_Salley"), "gallery.db has a 'John_Salley' already: choose another name"),
        (("rename", "John_Simm", " "), "a person's name is empty"),
        (("rename", "John_Simm", "a\nb"), "has the control character"),
    ],
)
def test_what_cannot_be_renamed_or_removed_is_said_and_nothing_changes(
    people: Path, arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(GalleryError) as caught:
        gallery(*arguments)
    assert message in str(caught.value)
    assert names() == ["John_Salley", "John_Savage", "John_Simm"]


@pytest.mark.parametrize(
    "arguments", [("list",), ("remove", "ann"), ("rename", "ann", "eve"), ("export", "x.npz"), ("calibrate",)]
)
def test_a_gallery_that_is_not_there_is_said_and_not_made(desk: Path, arguments: tuple[str, ...]) -> None:
    with pytest.raises(GalleryError, match=r"there is no gallery gallery\.db"):
        gallery(*arguments)
    assert list(desk.iterdir()) == []


# ---- verify, identify


def test_two_pictures_are_compared_and_the_threshold_is_said(desk: Path, johns: dict[str, list[Path]]) -> None:
    simm, salley = johns["John_Simm"], johns["John_Salley"]
    same = gallery("verify", simm[0], simm[1], *SMALL).output.splitlines()
    two = gallery("verify", simm[0], salley[1], *SMALL).output.splitlines()
    assert (same[-1], two[-1]) == ("the same person", "two people")
    for first in (same[0], two[0]):
        similarity, distance = map(float, re.findall(r"-?\d\.\d+", first)[:2])
        assert 1 - distance**2 / 2 == pytest.approx(similarity, abs=0.002)
        assert "threshold 0.270, the embedder's default" in first
    itself = gallery("verify", simm[0], simm[0], *SMALL).output
    assert itself.startswith("similarity 1.000 (distance 0.00")


def test_a_picture_that_is_not_of_one_face_is_not_compared(desk: Path, johns: dict[str, list[Path]]) -> None:
    portrait = johns["John_Simm"][0]
    pair = np.hstack([np.asarray(cv2.imread(str(path))) for path in (portrait, johns["John_Salley"][0])])
    cv2.imwrite("two.png", pair)
    cv2.imwrite("blank.png", np.full((200, 200, 3), 127, np.uint8))
    for picture, reason in (
        ("two.png", "two.png: two faces; show a picture with one face"),
        ("blank.png", "blank.png: no face; show a picture with one face"),
        ("gone.png", "gone.png does not exist"),
    ):
        with pytest.raises(ConfigError, match=f"^{re.escape(reason)}$"):
            gallery("verify", portrait, picture, *SMALL)


def identified(output: str) -> list[tuple[float, str, bool]]:
    """Return similarity, name and whether it is above the threshold of each line of a face."""
    rows = re.findall(r"^ +(-?\d\.\d{3})  (\S+)(  \(below the threshold\))?$", output, re.MULTILINE)
    return [(float(similarity), name, not mark) for similarity, name, mark in rows]


def test_a_known_face_is_identified_and_the_next_most_alike_are_shown(
    people: Path, johns: dict[str, list[Path]]
) -> None:
    done = gallery("identify", johns["John_Savage"][5], "--finder", "yunet")
    rows = identified(done.output)
    assert sorted(name for _, name, _ in rows) == ["John_Salley", "John_Savage", "John_Simm"]
    assert rows == sorted(rows, reverse=True)
    assert (rows[0][1], [above for _, _, above in rows]) == ("John_Savage", [True, False, False])
    assert rows[0][0] > 0.7
    assert "unknown" not in done.output
    assert re.match(r"face at \d+,\d+ to \d+,\d+, quality [01]\.\d\d:\n", done.output)
    assert done.output.splitlines()[-1].startswith("1 face; threshold 0.30")


def test_a_stranger_is_unknown_and_still_shown_whom_they_are_like(people: Path, johns: dict[str, list[Path]]) -> None:
    done = gallery("identify", johns["John_Shimkus"][0], "--finder", "yunet")
    assert [above for _, _, above in identified(done.output)] == [False] * 3
    assert "  unknown\n" in done.output


def test_each_face_of_a_picture_is_identified(people: Path, johns: dict[str, list[Path]]) -> None:
    row = [np.asarray(cv2.imread(str(johns[name][4]))) for name in ("John_Simm", "John_Shimkus", "John_Salley")]
    cv2.imwrite("three.png", np.hstack(row))
    cv2.imwrite("blank.png", np.full((200, 200, 3), 127, np.uint8))
    done = gallery("identify", "three.png", "--finder", "yunet")
    named = {name for _, name, above in identified(done.output) if above}
    assert named == {"John_Simm", "John_Salley"}
    assert done.output.count("  unknown\n") == 1
    assert "\n3 faces; threshold" in done.output
    assert gallery("identify", "blank.png", "--finder", "yunet").output.startswith("0 faces; threshold")
    with pytest.raises(ConfigError, match=r"gone\.png does not exist"):
        gallery("identify", "gone.png", "--finder", "yunet")


def test_everybody_is_unknown_to_an_empty_gallery(people: Path, johns: dict[str, list[Path]]) -> None:
    for name in names():
        gallery("remove", name)
    done = gallery("identify", johns["John_Simm"][0], "--finder", "yunet")
    assert done.output.splitlines()[1] == "  unknown"


# ---- calibrate


def pair_file(johns: dict[str, list[Path]], path: Path) -> Path:
    """Write 15 pairs of one person and 30 of two."""
    own = [(paths[a], paths[b], 1) for paths in johns.values() for a, b in ((3, 4), (5, 6), (7, 8))]
    lists = list(johns.values())
    others = [(lists[a][row], lists[b][row], 0) for a in range(5) for b in range(a + 1, 5) for row in (3, 5, 7)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("image_a", "image_b", "same"), *own, *others])
    return path


def calibration(path: Path) -> Any:
    with GalleryFile.open(path, read_only=True) as file:
        return file.calibration()


def test_thresholds_are_chosen_from_labelled_pairs_and_stored(people: Path, johns: dict[str, list[Path]]) -> None:
    pairs = pair_file(johns, Path("pairs.csv"))
    done = gallery(
        "calibrate", "--pairs", pairs, "--images", "/", "--far", "0.1", "--plot", "r.png", "--finder", "yunet"
    )
    assert done.exit_code == 0
    assert done.output.startswith("pairs.csv: 15 pairs of one person, 30 of two people\n")
    assert "stored in gallery.db; a running pipeline uses it within two seconds" in done.output
    stored = calibration(people)
    assert (stored["same_pairs"], stored["different_pairs"], stored["verify"]["asked"]) == (15, 30, 0.1)
    assert stored["verify"]["comparisons"] == 30
    assert stored["verify"]["errors"] <= 3
    assert 0 < stored["verify"]["threshold"] < 0.6
    assert stored["subject"]["people"] == 3
    assert cv2.imread("r.png") is not None
    assert f"threshold 1:1        {stored['verify']['threshold']:.4f}" in done.output
    assert gallery("list").output.splitlines()[-1].startswith("calibrated 20")
    verified = gallery("verify", johns["John_Simm"][0], johns["John_Simm"][1], *SMALL).output
    assert f"threshold {stored['verify']['threshold']:.3f}, calibrated on pairs.csv" in verified


def test_pictures_of_pairs_are_beside_their_file_by_default(people: Path, johns: dict[str, list[Path]]) -> None:
    Path("pairs").mkdir()
    for number, path in enumerate([*johns["John_Simm"][3:5], *johns["John_Salley"][3:5]]):
        shutil.copy(path, f"pairs/{number}.jpg")
    Path("pairs/p.csv").write_text("image_a,image_b,same\n0.jpg,1.jpg,1\n2.jpg,3.jpg,1\n0.jpg,2.jpg,0\n1.jpg,3.jpg,0\n")
    assert gallery("calibrate", "--pairs", "pairs/p.csv", "--finder", "yunet").exit_code == 0
    assert calibration(people)["different_pairs"] == 2


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("a,b\n1,2\n", (), "has no column 'image_a'"),
        (
            "image_a,image_b,same\ngone.jpg,gone.jpg,0\n",
            (),
            "gone.jpg does not exist, nor does any other of the pictures",
        ),
        (None, ("--far", "0"), "FAR 0: give a rate between 0 and 1"),
        (None, ("--fpir", "1"), "FPIR 1: give a rate between 0 and 1"),
    ],
)
def test_what_cannot_be_calibrated_is_said_and_nothing_is_stored(
    people: Path, content: str | None, options: tuple[str, ...], message: str
) -> None:
    if content is not None:
        Path("p.csv").write_text(content)
        options = ("--pairs", "p.csv", *options)
    with pytest.raises((ConfigError, GalleryError)) as caught:
        gallery("calibrate", *options, "--finder", "yunet")
    assert message in str(caught.value)
    assert calibration(people) is None


def test_a_gallery_of_one_person_cannot_calibrate_itself(people: Path) -> None:
    for name in names()[1:]:
        gallery("remove", name)
    with pytest.raises(GalleryError, match="a threshold needs two at least"):
        gallery("calibrate")
    assert calibration(people) is None


# ---- unknowns


def test_unknown_people_are_listed_and_enrolled_by_number(people: Path, johns: dict[str, list[Path]]) -> None:
    with GalleryFile.open(people, read_only=True) as file:
        records, sha256 = file.records("John_Simm"), file.embedder.sha256
    gallery("remove", "John_Simm")
    seen = [{"box": [0, 0, 9, 9], "name": None, "track": row, "quality": 0.9, "embedder": sha256,
             "encoding": record.vector.tolist()} for row, (_, record) in enumerate(records)]  # fmt: skip
    Path("e.jsonl").write_text(json.dumps({"type": "frame", "source": "door", "frame": 7, "faces": seen}) + "\n")
    with pytest.raises(ConfigError, match="there is 1 unknown person"):
        gallery("unknowns", "e.jsonl", "--enrol", "2=simm")
    done = gallery("unknowns", "e.jsonl", "--enrol", "1=simm")
    assert done.output.splitlines()[0].startswith("person 1: 3 faces of 3 tracks; the best is in door, frame 7")
    assert done.output.splitlines()[-1] == "added    simm: 3 faces of person 1"
    rows = identified(gallery("identify", johns["John_Simm"][6], "--finder", "yunet").output)
    assert (rows[0][1], rows[0][2]) == ("simm", True)
