"""`irvf explain`: what a user reads of an instruction, and of a file of sentences."""

import pytest

from irvf.cli.__main__ import main


@pytest.fixture
def explained(capsys):
    """Return a function that runs the command and returns its exit code and its blocks of lines by name."""

    def run(*arguments):
        code = main(["explain", *map(str, arguments)])
        blocks = capsys.readouterr().out.strip().split("\n\n")
        return code, [{line[:12].strip(): line[13:] for line in block.splitlines()} for block in blocks]

    return run


@pytest.fixture
def refusal(capsys):
    def run(*arguments):
        assert main(["explain", *map(str, arguments)]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        return line

    return run


def test_an_instruction_is_explained(explained):
    code, (said,) = explained("only the cyclists")
    assert code == 0
    assert said["text"] == "'only the cyclists'"
    assert said["understood"].startswith("detection of bicycle (by its words, confidence")
    assert (said["task"], said["classes"], said["heads"], said["effects"]) == (
        "detection", "bicycle", "detection", "none",
    )  # fmt: skip
    assert float(said["time"].removesuffix(" ms")) > 0


def test_a_refusal_is_explained_and_is_the_exit_code(explained):
    code, (said,) = explained("bake a cake")
    assert code == 1
    assert said["refused"].startswith("not understood: ")
    assert "task" not in said


def test_several_are_taken_one_after_the_other(explained):
    code, said = explained("find the cars", "make the people brighter", "make the people brighter", "bake a cake",
                           "what stands out?", "reset")  # fmt: skip
    assert code == 1
    assert [each.get("task") for each in said] == [
        "detection", "detection (as before)", "detection (as before)", None, "saliency", "saliency (as before)",
    ]  # fmt: skip
    assert [each.get("classes") for each in said] == ["car", "car", "car", None, "all", "all"]
    effects = [each.get("effects") for each in said]
    assert effects == ["none", "brighter 0.5 (person)", "brighter 1 (person)", None, "brighter 1 (person)", "none"]


def test_effects_alone_mean_the_image_to_be_looked_at(explained):
    code, (said,) = explained("sharper")
    assert code == 0
    assert (said["task"], said["heads"], said["effects"]) == ("viewing (as before)", "none", "sharper 0.5")


def test_too_many_effects_are_refused(explained):
    ways = ("brighter", "sharper", "more contrast")
    code, said = explained(*(f"{way} on the {region}" for region in ("left", "right", "road") for way in ways))
    assert code == 1
    assert said[-1]["refused"] == "9 effects would be in force, at most 8 can be; reset them first"
    assert all("refused" not in each for each in said[:-1])


def test_tasks_and_classes_of_a_users_own(explained, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("tasks: {patrol: {description: d, phrases: [guard the yard], heads: [detection, saliency]}}")
    code, (said,) = explained("guard the yard", "--tasks-file", path)
    assert (code, said["task"], said["heads"]) == (0, "patrol", "detection, saliency")
    assert explained("guard the yard")[0] == 1
    code, (said,) = explained("everything except dogs", "--classes", "person", "dog", "truck")
    assert (code, said["classes"]) == (0, "person, truck")


def test_words_alone(explained):
    code, (said,) = explained("find the cars", "--encoder", "")
    assert (code, said["classes"]) == (0, "car")
    assert "confidence 1.00" in said["understood"]


def test_text_that_does_not_print_is_not_printed(explained):
    code, (said,) = explained("find\x1b[31m the\u202e cars\nforged: yes")
    assert "\x1b" not in str(said)
    assert "forged" not in said
    assert code == (0 if "task" in said else 1)


SENTENCES = """
- {text: find the cars, category: classes, task: detection, classes: [car]}
- {text: find the people, category: classes, task: detection, classes: [car]}
- {text: bake a cake, category: task, task: detection}
- {text: bake a cake, category: off_topic, task: refused}
- {text: finde die Autos, category: classes, task: detection, classes: [car], language: de}
- {text: "wie ist das Wetter?", category: off_topic, task: refused, language: de}
"""


@pytest.fixture
def sentences(tmp_path):
    path = tmp_path / "sentences.yaml"
    path.write_text(SENTENCES)
    return path


def test_sentences_are_measured(sentences, capsys):
    assert main(["explain", "--sentences", str(sentences)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "| en | classes | 2 | 2 | 0 | 0 | 1 |" in lines
    assert "| en | task | 1 | 0 | 1 | 0 | 0 |" in lines
    assert "| de | off_topic | 1 | 1 | 0 | 0 | 1 |" in lines
    english, others = (next(line for line in lines if line.startswith(name)) for name in ("English", "other"))
    assert english == (
        "English: task right 2 of 3 (66.7%), all right 1 of 3 (33.3%), off-topic refused 1 of 1 (100.0%), "
        "wrong task 0 of 4 (0.0%)"
    )
    assert "task right 1 of 1 (100.0%)" in others


def test_what_fails_is_shown_where_it_is_asked_for(sentences, capsys):
    main(["explain", "--sentences", str(sentences)])
    assert "'find the people'" not in capsys.readouterr().out
    main(["explain", "--sentences", str(sentences), "--failures"])
    said = capsys.readouterr().out
    assert "'find the people'\n  classes: detection of person" in said
    assert "'bake a cake'\n  task: not understood" in said
    assert "'find the cars'" not in said


def test_sentences_and_an_instruction(sentences, capsys):
    assert main(["explain", "bake a cake", "--sentences", str(sentences)]) == 1
    said = capsys.readouterr().out
    assert "English: " in said
    assert "refused" in said


def test_what_cannot_be_used_is_one_line(refusal, tmp_path):
    assert "irvf explain 'only the cyclists'" in refusal()
    assert "missing.yaml" in refusal("cars", "--tasks-file", tmp_path / "missing.yaml")
    assert "missing.yaml" in refusal("--sentences", tmp_path / "missing.yaml")
    assert "no model 'unheard'" in refusal("cars", "--encoder", "unheard")
    (tmp_path / "mine.yaml").write_text("tasks: {patrol: 3}")
    assert "mine.yaml: tasks: patrol" in refusal("cars", "--tasks-file", tmp_path / "mine.yaml")
    (tmp_path / "mine.yaml").write_text("text: x")
    assert "mine.yaml must be a list" in refusal("--sentences", tmp_path / "mine.yaml")
