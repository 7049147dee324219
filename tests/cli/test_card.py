"""``neuronxa card``."""


def test_card_prints_the_block_or_writes_the_file(neuronxa, run, tmp_path):
    code, out, _ = neuronxa("card", f"{run}@2")
    assert code == 0
    assert out.startswith("<!-- neuronxa: begin -->")
    assert "at step 2" in out
    file = tmp_path / "README.md"
    assert neuronxa("card", run, "-o", file, "--model-name", "me/mine")[:2] == (0, f"{file}\n")
    assert "name: me/mine" in file.read_text(encoding="utf-8")
