"""Small data for the benchmarks that read a folder of the user's."""

import json

import pytest


def _lines(folder, splits, rows):
    for split in splits:
        text = "\n".join(json.dumps(row | {"text": f"{split} {row['text']}"}) for row in rows)
        (folder / f"{split}.jsonl").write_text(text)


def text_classes(folder):
    _lines(folder, ("train", "test"), [{"text": str(i), "label": i % 3} for i in range(240)])


def ddi2013(folder):
    labels = ("DDI-false", "DDI-mechanism", "DDI-advise", "DDI-effect", "DDI-int")
    for split in ("train", "dev", "test"):
        rows = [f"{i}\t{split} {i}\t{labels[i % 5]}" for i in range(240)]
        (folder / f"{split}.tsv").write_text("\n".join(rows))


def _image(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(str(file).encode())  # a plan tells images apart and opens none


def nlvr2(folder):
    for split in ("train", "dev", "test1"):
        rows = []
        for number in range(240):
            name = f"{split}-{number}-0"
            rows.append(
                {"identifier": f"{name}-0", "sentence": split, "label": str(number % 2 > 0)}
            )
            for side in range(2):
                _image(folder / "images" / split / f"{name}-img{side}.png")
        (folder / f"{split}.json").write_text("\n".join(map(json.dumps, rows)))


def image_text_classes(folder):
    _image(folder / "one.png")
    rows = [{"sentence": str(i), "images": "one.png", "label": i % 3} for i in range(240)]
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))


def image_classes(folder):
    _image(folder / "one.png")
    rows = [{"image": "one.png", "label": i % 3} for i in range(240)]
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))


WRITERS = {
    write.__name__: write
    for write in (text_classes, ddi2013, nlvr2, image_text_classes, image_classes)
}


@pytest.fixture(scope="session")
def options_of(tmp_path_factory):
    """Return the options with which a benchmark can be made: a folder for those that need one."""
    made = {}

    def options(name):
        if name in WRITERS and name not in made:
            folder = tmp_path_factory.mktemp(name)
            WRITERS[name](folder)
            made[name] = {"path": str(folder)}
        return made.get(name, {})

    return options
