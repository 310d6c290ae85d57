"""Nothing that is read can run code: no pickle, no YAML with constructors, no code of a model's folder."""

import ast
import pickle
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import yaml

from irvf.instruction import grammar
from irvf.models import ModelError
from irvf.perception.detector_files import load_detector

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for folder in ("irvf", "irvf_fusion_node", "demo", "tools", "launch")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
READS_CODE = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
CALLS = {"eval", "exec", "compile", "torch.load", "yaml.unsafe_load", "yaml.full_load", "pandas.read_pickle"}


def given_options(tree):
    """What mappings of a source hold that are handed to calls as ``**name``, all of one name together."""
    options = defaultdict(dict)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Dict):
            name = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
            pairs = zip(node.value.keys, node.value.values, strict=True)
            options[name] |= {key.value: ast.unparse(value) for key, value in pairs if isinstance(key, ast.Constant)}
    return options


def offences(path):
    """What a source does that could run code out of a file."""
    tree = ast.parse(path.read_text("utf-8"))
    options = given_options(tree)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (f"imports {module}" for module in modules if module.split(".")[0] in READS_CODE)
        elif isinstance(node, ast.Call):
            given = {}
            for keyword in node.keywords:
                value = ast.unparse(keyword.value)
                given |= {keyword.arg: value} if keyword.arg else options[value]
            yield from offences_of_call(ast.unparse(node.func), given)


def offences_of_call(called, given):
    if called in CALLS:
        yield f"calls {called}"
    if called in ("np.load", "numpy.load") and given.get("allow_pickle", "False") != "False":
        yield "np.load of pickles"
    if called == "yaml.load" and given.get("Loader") not in ("yaml.SafeLoader", "yaml.CSafeLoader", "_LOADER"):
        yield "yaml.load that constructs"
    if called.endswith(".from_pretrained"):
        if given.get("trust_remote_code") != "False":
            yield f"{called} without trust_remote_code=False"
        if "Tokenizer" not in called and given.get("use_safetensors") != "True":
            yield f"{called} without use_safetensors=True"


def test_no_source_reads_what_can_run_code():
    found = {str(path.relative_to(ROOT)): problems for path in SOURCES if (problems := list(offences(path)))}
    assert len(SOURCES) > 100
    assert not found


def test_the_search_finds_what_it_is_for(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text(
        "import pickle, torch\nfrom joblib import load\ntorch.load(f)\nnp.load(f, allow_pickle=True)\nexec(text)\n"
        "yaml.load(text, Loader=yaml.Loader)\nAutoModel.from_pretrained(name, trust_remote_code=True)\n"
    )
    assert len(list(offences(path))) == 8


def test_the_loader_of_the_grammar_is_a_safe_one():
    assert grammar._LOADER in (yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


class Attack:
    """A pickle that leaves a file when it is loaded."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_a_pickle_is_refused_before_anything_of_it_is_read(tmp_path):
    mark, path = tmp_path / "ran", tmp_path / "own.pt"
    path.write_bytes(pickle.dumps(Attack(mark)))
    with pytest.raises(ModelError) as raised:
        load_detector(str(path), lambda _network: pytest.fail("nothing is to be loaded"))
    assert "allow_pickle" in str(raised.value)
    assert "run whatever code" in str(raised.value)
    assert "format=onnx" in str(raised.value)
    assert not mark.exists()


def test_not_even_the_library_is_imported_that_could_read_it(tmp_path):
    path = tmp_path / "own.pt"
    path.write_bytes(b"anything")
    code = (
        "import sys; from irvf.perception.detector_files import load_detector; from irvf.models import ModelError\n"
        f"try: load_detector({str(path)!r}, None)\n"
        "except ModelError: sys.exit('torch' in sys.modules or 'ultralytics' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0  # noqa: S603
