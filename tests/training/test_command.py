"""The command, its figure, and what it refuses before a download; importing without torchvision."""

import os
from pathlib import Path
import subprocess
import sys

from matplotlib.figure import Figure
import numpy as np
import pandas as pd
import pytest
from small_training import DARTS_V2

from ncdlib import training
from ncdlib.training import __main__ as command
from ncdlib.training import curves


def test_one_command_trains_and_goes_on(pictures, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = [DARTS_V2, "--data", str(pictures), "--out", str(out), "--epochs", "2", "--batch-size", "6"]
    arguments += ["--channels", "2", "--layers", "3", "--device", "cpu"]
    assert command.main(arguments) == 0
    said = capsys.readouterr().out
    assert "arXiv:1806.09055" in said and "not verified: " in said and "valid_top1" in said
    assert {path.name for path in out.iterdir()} >= {"checkpoint.pt", "history.csv", "training.png"}
    history, begun = pd.read_csv(out / "history.csv"), (out / "checkpoint.pt").stat().st_mtime_ns
    assert command.main(arguments) == 0  # finished: nothing is trained again
    assert capsys.readouterr().out == said and (out / "checkpoint.pt").stat().st_mtime_ns == begun
    pd.testing.assert_frame_equal(pd.read_csv(out / "history.csv"), history)
    assert command.main([*arguments, "--seed", "1"]) == 1
    assert "seed: 0 there, 1 asked for" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x"], "error: 'x' is not of the form Genotype"),
        ([DARTS_V2, "--space", "darst"], "error: unknown search space 'darst'"),
        ([DARTS_V2, "--device", "gpu"], "error: device 'gpu' cannot be used on this machine"),
        ([DARTS_V2, "--seed", str(10**23)], "error: a seed is a whole number from 0 up to, not including, 2**63"),
        ([DARTS_V2, "--seed", "-1"], "error: a seed is a whole number from 0 up to, not including, 2**63: got -1"),
        ([DARTS_V2, "--channels", "100000"], "weights, which need at least"),
        ([DARTS_V2, "--channels", "0"], "error: channels must be"),
        ([DARTS_V2, "--epochs", "0"], "error: epochs must be a whole number from 1 up to, not including, inf: got 0"),
        ([DARTS_V2, "--data", "nowhere"], "error: nowhere is neither one of"),
        ([DARTS_V2, "--recipe", "pcdarts_imagenet"], "error: pcdarts_imagenet needs --data, the folder where ImageNet"),
        (["1" * 17, "--space", "mobilenet_v2", "--channels", "2"], "error: the networks of mobilenet_v2 have no 'channels'"),
    ],
)
def test_what_the_command_cannot_do_it_says_before_a_download(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command.data_, "cifar10", lambda: pytest.fail("downloaded"))
    assert command.main([*arguments, "--out", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    size = ["--channels", "2", "--layers", "3", "--epochs", "1", "--device", "cpu"]
    assert command.main([DARTS_V2, "--data", "digits", *size, "--out", str(tmp_path / "file" / "out")]) == 1
    assert "error: [Errno 20] Not a directory" in capsys.readouterr().err


def test_the_course_of_a_training_is_drawn():
    history = pd.DataFrame({"epoch": [1, 2, 3], "train_loss": [3.0, 2.0, 1.5], "valid_loss": [3.1, 2.5, 2.4]})
    history[["train_top1", "valid_top1"]] = [[10.0, 12.0], [30.0, 25.0], [50.0, 33.0]]
    loss, accuracy = Figure().subplots(1, 2)
    curves.draw(history, loss, "loss")
    curves.draw(history, accuracy)
    np.testing.assert_array_equal(loss.lines[0].get_ydata(), history.train_loss)
    np.testing.assert_array_equal(accuracy.lines[1].get_ydata(), history.valid_top1)
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss", "top-1 accuracy (%)")
    with pytest.raises(ValueError, match="unknown quantity 'f1': use one of loss, top1"):
        curves.draw(history, loss, "f1")


def test_torchvision_is_needed_by_training_alone():
    code = "import sys; sys.modules['torchvision'] = None; import ncdlib; print('imported'); import ncdlib.training"
    environment = os.environ | {"PYTHONPATH": str(Path(training.__file__).parents[2])}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (1, "imported\n")
    assert "ImportError: ncdlib.training needs torchvision" in ran.stderr and "pip install 'ncdlib[train]'" in ran.stderr
