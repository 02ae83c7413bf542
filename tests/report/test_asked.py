"""What a study was asked, in words."""

from dataclasses import replace

from raymcu.report.asked import asked
from raymcu.report.data import load_study


def with_space(study, **space):
    return dict(asked(replace(study, plan=study.plan | {"search_space": space}, curves=())))


def test_what_is_not_asked_is_not_told(finished_run):
    study = load_study(finished_run)
    assert with_space(study) == {"to forget": "forget01 (20 questions), forget05 (20 questions)"}


def test_components_are_told_with_the_options_that_were_given(finished_run):
    told = with_space(
        load_study(finished_run),
        description="Does it forget?",
        benchmark={"name": "tofu", "path": "data", "forget_sizes": ["forget01"]},
        methods=[
            {"name": "npo", "label": None, "beta": 0.1, "training": {}, "mask": None},
            {"name": "grad_diff", "label": "GD", "training": {"epochs": 3, "warmup": None}},
        ],
        unlearning={"seeds": [0, 1], "training": {"epochs": 6.0, "learning_rate": 1e-5,
                                                  "batch_size": 8, "optimizer": {"name": "muon"}}},
        measurement={"probes": ["forget", "retain"]},
    )  # fmt: skip
    assert told["question"] == "Does it forget?"
    assert told["benchmark"] == "tofu (path=data)"
    assert told["methods"] == "npo (beta=0.1); GD = grad_diff (training={epochs=3})"
    assert told["seeds"] == "0, 1"
    assert told["training"] == ("unlearners: 6 epochs, learning rate 1e-05, batches of 8, muon")
    assert told["probes"] == "forget, retain"


def test_a_forget_set_is_told_by_what_is_to_go_where_a_run_knows_it(finished_run):
    study = load_study(finished_run)
    told = {"forget01": "data mismatch: 'cat' is given, all of 'animals' is to go"}
    words = dict(asked(replace(study, plan=study.plan | {"forget_sets": told})))
    assert words["to forget"] == (
        f"forget01 (20 questions; {told['forget01']}), forget05 (20 questions)"
    )


def test_a_model_is_told_by_its_path_or_its_shape(finished_run):
    study = load_study(finished_run)
    path = {"path": "org/model", "dtype": "bfloat16", "scratch": {"num_layers": 1}}
    assert with_space(study, model=path)["model"] == "org/model, bfloat16"
    shape = {"num_layers": 2, "hidden_size": 64, "vocab_size": 400}
    assert with_space(study, model={"path": None, "scratch": shape, "dtype": "float32"})[
        "model"
    ] == "made from scratch: 2 layers, hidden size 64, vocabulary of 400, float32"  # fmt: skip
