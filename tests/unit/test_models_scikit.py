"""Classifiers of scikit-learn from skops files: the same answers exactly, and every hostile file refused unread."""

from __future__ import annotations

import ast
import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
import torch
from evaluate_cases import dataset
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import (
    HuberRegressor,
    Lasso,
    LinearRegression,
    LogisticRegression,
    Perceptron,
    RidgeClassifier,
)
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, PolynomialFeatures, StandardScaler
from sklearn.svm import LinearSVR

from assay.cli import main
from assay.errors import Refused, UnfitInput
from assay.models.folder import load_model
from assay.models.scikit import read_skops
from assay.workspace import Workspace

SOURCE = Path(__file__).parents[2] / "src" / "assay"
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def records(classes: int = 3, count: int = 200) -> tuple[Any, Any]:
    draw = np.random.default_rng(0)
    x = draw.uniform(0, 1, (count, 4)).astype(np.float32)
    return x, ((x - 0.5) @ draw.normal(size=(4, classes)) + 0.1 * draw.normal(size=(count, classes))).argmax(1)


def saved(path: Path, model: Any, classes: int = 3) -> Path:
    x, y = records(classes)
    skops.io.dump(model.fit(x, y), path)
    return path


@pytest.fixture
def folder(workspace: Workspace, tmp_path: Path) -> Path:
    workspace.initialise()
    return tmp_path


MODELS = {
    "logistic regression": lambda: LogisticRegression(),
    "ridge": lambda: RidgeClassifier(),
    "perceptron behind a scaler": lambda: make_pipeline(StandardScaler(), Perceptron()),
    "network behind two scalers": lambda: make_pipeline(
        MinMaxScaler((-1, 2)), StandardScaler(), MLPClassifier((9, 5), max_iter=60, random_state=0)
    ),
    "network behind a scaler without mean": lambda: make_pipeline(
        MaxAbsScaler(), StandardScaler(with_mean=False), MLPClassifier((7,), max_iter=60, random_state=0, solver="sgd")
    ),
}


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", MODELS)
def test_layers_give_the_originals_decision_function(name, classes, tmp_path):
    """Reference: scikit-learn's own probabilities, or decision values, on other records than it learned from."""
    model = MODELS[name]()
    layers = read_skops(saved(tmp_path / "m.skops", model, classes))
    x = np.random.default_rng(5).uniform(-1, 2, (300, 4)).astype(np.float32)
    at = x.astype(np.float64)
    for number, (weight, bias) in enumerate(zip(layers.weights, layers.biases, strict=True)):
        at = (np.maximum(at, 0) if number else at) @ weight.T + bias
    if hasattr(model, "predict_proba"):
        found = np.exp(at - at.max(1, keepdims=True))
        np.testing.assert_allclose(found / found.sum(1, keepdims=True), model.predict_proba(x), atol=1e-5)
    else:
        need = model.decision_function(x)
        np.testing.assert_allclose(at if classes > 2 else at[:, 1], need, rtol=1e-5, atol=1e-5)
    assert (layers.predicts(x) == at.argmax(1)).mean() == 1


def test_the_verb_makes_a_folder_that_says_what_the_original_says(folder, capsys):
    x, y = records()
    dataset(x, y, classes=3).save(folder / "golden")
    model = make_pipeline(StandardScaler(), MLPClassifier((6,), max_iter=80, random_state=0))
    path = saved(folder / "m.skops", model)
    arguments = [
        "import-model",
        str(path),
        "--golden",
        str(folder / "golden"),
        "--out",
        str(folder / "model"),
        "--json",
    ]
    assert main.run(arguments) == 0, capsys.readouterr().err
    document = json.loads(capsys.readouterr().out)
    assert document["architecture"] == {"name": "mlp", "settings": {"hidden": [6]}}
    loaded = load_model(folder / "model")
    with torch.no_grad():
        logits = loaded.module(torch.from_numpy(x))
    np.testing.assert_allclose(logits.softmax(1).numpy(), model.predict_proba(x), atol=1e-5)
    assert main.run([*arguments, "--architecture", "mlp"]) == 2


def test_other_columns_classes_or_widths_are_refused(folder):
    from assay.models.importing import import_layers

    x, y = records()
    layers = read_skops(saved(folder / "m.skops", LogisticRegression()))
    dataset(x[:, :3], y, classes=3).save(folder / "narrow")
    dataset(x, y % 2, "two", classes=2).save(folder / "two")
    for golden, message in (("narrow", "model: inputs: got 4"), ("two", "model: classes")):
        with pytest.raises(UnfitInput, match=message):
            import_layers(layers, golden=folder / golden, model=folder / "out", bounds=(0, 1))
    assert not (folder / "out").exists()


def test_a_conversion_that_says_something_else_is_refused(folder):
    """The mutant: weights of the wrong sign, against the original's own predictions."""
    from dataclasses import replace

    from assay.models.importing import import_layers

    x, y = records()
    dataset(x, y, classes=3).save(folder / "golden")
    layers = read_skops(saved(folder / "m.skops", LogisticRegression()))
    wrong = replace(layers, weights=tuple(-weight for weight in layers.weights))
    with pytest.raises(Refused, match="another class than the original's"):
        import_layers(wrong, golden=folder / "golden", model=folder / "out", bounds=(0, 1))
    assert not (folder / "out").exists()


class Danger:
    def __reduce__(self):
        return (Path.touch, (Path("/tmp/was-unpickled-by-assay"),))


def hostile(folder: Path) -> dict[str, Path]:
    """Files that are not what they are called."""
    made = {name: folder / f"{name}.skops" for name in ("pickle", "nothing", "text", "cut", "torch", "schema", "os")}
    made["pickle"].write_bytes(pickle.dumps(Danger()))
    made["nothing"].write_bytes(b"")
    made["text"].write_text("a model")
    whole = saved(folder / "whole.skops", LogisticRegression()).read_bytes()
    made["cut"].write_bytes(whole[: len(whole) // 2])
    torch.save({"w": torch.zeros(2)}, made["torch"])
    for name, schema in (("schema", "[]"), ("os", json.dumps(CALL))):
        with zipfile.ZipFile(made[name], "w") as archive:
            archive.writestr("schema.json", schema)
    return made


@pytest.mark.slow
def test_an_archive_that_grows_is_refused_before_it_is_opened(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.skops", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", "{}")
        with archive.open("0.npy", "w", force_zip64=True) as entry:
            for _ in range(65):
                entry.write(b"\0" * 2**23)
    with pytest.raises(UnfitInput, match="2 entries, 545259522 bytes"):
        read_skops(tmp_path / "bomb.skops")


CALL = {
    "__class__": "system", "__module__": "os", "__loader__": "FunctionNode", "content": "os.system", "__id__": 1,
    "protocol": 2, "_skops_version": "0.16",
}  # fmt: skip


def test_hostile_files_are_refused_and_nothing_in_them_runs(tmp_path):
    for name, path in hostile(tmp_path).items():
        with pytest.raises((UnfitInput, Refused)) as raised:
            read_skops(path)
        assert str(path) in str(raised.value), name
    assert not Path("/tmp/was-unpickled-by-assay").exists()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: RandomForestClassifier(2), "Untrusted types"),
        (lambda: MLPClassifier((4,), activation="tanh", max_iter=5), "MLPClassifier with tanh"),
        (lambda: make_pipeline(PolynomialFeatures(), LogisticRegression()), "a step PolynomialFeatures"),
        (lambda: make_pipeline(MinMaxScaler(clip=True), LogisticRegression()), "without clipping"),
    ],
)
def test_models_without_such_layers_are_refused(model, message, tmp_path):
    with pytest.raises(Refused, match=message):
        read_skops(saved(tmp_path / "m.skops", model()))


def test_a_model_that_was_not_fitted_or_holds_nonsense_is_refused(tmp_path):
    skops.io.dump(LogisticRegression(), tmp_path / "m.skops")
    with pytest.raises(UnfitInput, match="a fitted classifier"):
        read_skops(tmp_path / "m.skops")
    fitted = LogisticRegression().fit(*records())
    fitted.coef_ = "weights"
    skops.io.dump(fitted, tmp_path / "n.skops")
    with pytest.raises(UnfitInput, match="a fitted classifier"):
        read_skops(tmp_path / "n.skops")


FORBIDDEN = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def test_no_module_unpickles_anything():
    """Of every module: no pickle, no ``allow_pickle=True``, no ``torch.load`` but of tensors alone."""
    for file in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & FORBIDDEN, file
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in ("pd.read_pickle", "pandas.read_pickle"), file
                if ast.unparse(node.func) == "torch.load":
                    assert file.name == "state_dict.py"
                    assert "weights_only=True" in {ast.unparse(keyword) for keyword in node.keywords}
                for keyword in node.keywords:
                    allowed = keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False"
                    assert not allowed, file


def test_numpy_arrays_of_objects_in_a_file_are_refused(tmp_path):
    """A skops file whose array is a pickle in disguise."""
    whole = saved(tmp_path / "whole.skops", LogisticRegression())
    disguised = io.BytesIO()
    np.save(disguised, np.array([Danger()], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(whole) as given, zipfile.ZipFile(tmp_path / "m.skops", "w") as made:
        for name in given.namelist():
            made.writestr(name, disguised.getvalue() if name.endswith(".npy") else given.read(name))
    with pytest.raises((UnfitInput, Refused)):
        read_skops(tmp_path / "m.skops")
    assert not Path("/tmp/was-unpickled-by-assay").exists()


REGRESSORS = {
    "least squares": lambda: LinearRegression(),
    "Huber behind a scaler": lambda: make_pipeline(StandardScaler(), HuberRegressor()),
    "lasso": lambda: Lasso(alpha=0.01),
    "support vectors": lambda: LinearSVR(),
    "network behind two scalers": lambda: make_pipeline(
        MinMaxScaler((-1, 2)), StandardScaler(), MLPRegressor(hidden_layer_sizes=(9, 5), max_iter=60, random_state=0)
    ),
}


def quantities(path: Path, count: int = 200) -> tuple[Any, Any]:
    """Records of a quantity as a dataset folder, and as arrays."""
    import pyarrow as pa
    from model_cases import history

    from assay.data.dataset import Dataset

    x, _ = records(count=count)
    y = 100 + 50 * x[:, 0].astype(np.float64) - 20 * x[:, 1]
    keys = {"batch": pa.array(["clinic/a"] * count, pa.string()), "row": pa.array(np.arange(count), pa.int64())}
    table = pa.table({**keys, **{f"x{at}": x[:, at] for at in range(4)}, "label": y})
    Dataset.make(table, [], history()).save(path)
    return x, y


@pytest.mark.parametrize("name", REGRESSORS)
def test_an_imported_regressor_gives_the_quantities_of_the_original(name, folder, capsys):
    x, y = quantities(folder / "golden")
    original = REGRESSORS[name]().fit(x, y)
    skops.io.dump(original, folder / "m.skops")
    words = [str(folder / "m.skops"), "--golden", str(folder / "golden"), "--out", str(folder / "out"), "--json"]
    assert main.run(["import-model", *words]) == 0, capsys.readouterr().err
    model = load_model(folder / "out")
    assert model.spec.regression
    fresh = np.random.default_rng(5).uniform(0, 1, (300, 4)).astype(np.float32)
    said = model.module(torch.from_numpy(fresh))[:, 0].numpy()
    np.testing.assert_allclose(said, original.predict(fresh.astype(np.float64)), rtol=1e-4, atol=1e-3)


def test_regressors_that_are_no_layers_or_give_two_quantities_are_refused(folder):
    x, y = quantities(folder / "golden")
    cases = {
        "trees": (GradientBoostingRegressor(n_estimators=3).fit(x, y), "black box"),
        "tanh": (MLPRegressor(hidden_layer_sizes=(3,), activation="tanh", max_iter=5).fit(x, y), "with tanh"),
        "two": (LinearRegression().fit(x, np.c_[y, y]), "2 quantities"),
    }
    for name, (model, match) in cases.items():
        skops.io.dump(model, folder / f"{name}.skops")
        with pytest.raises(Refused, match=match):
            read_skops(folder / f"{name}.skops")


def test_a_regressor_takes_no_golden_records_of_classes_and_a_classifier_none_of_quantities(folder, capsys):
    x, y = quantities(folder / "golden")
    skops.io.dump(LinearRegression().fit(x, y), folder / "r.skops")
    saved(folder / "c.skops", LogisticRegression())
    dataset(*records(), classes=3).save(folder / "classes")
    for model, golden in (("r", "classes"), ("c", "golden")):
        words = [str(folder / f"{model}.skops"), "--golden", str(folder / golden), "--out", str(folder / "out")]
        assert main.run(["import-model", *words]) == 2
        assert "model: classes" in capsys.readouterr().err
    assert not (folder / "out").exists()
