"""``neuronxa card``."""


def test_card_prints_the_block_or_writes_the_file(neuronxa, run, tmp_path):
    code, out, _ = neuronxa("card", f"{run}@2")
    assert code == 0
    assert out.startswith("<!-- neuronxa: begin -->")
    assert "at step 2" in out
    file = tmp_path / "README.md"
    assert neuronxa("card", run, "-o", file, "--model-name", "me/mine")[:2] == (0, f"{file}\n")
    assert "name: me/mine" in file.read_text(encoding="utf-8")


def test_a_card_on_a_full_disk_is_an_error(neuronxa_on_full_disk, run):
    code, _, err = neuronxa_on_full_disk("card", run)
    assert code == 2
    assert err.startswith("neuronxa: the result must be printed to standard output, which fails: ")
    assert err.count("\n") == 1


def test_a_card_keeps_the_metadata_as_it_is_written(neuronxa, run, tmp_path):
    file = tmp_path / "README.md"
    file.write_text("---\nlanguage: no # Norwegian\n---\n# Mine\n", encoding="utf-8")
    assert neuronxa("card", run, "-o", file)[0] == 0
    text = file.read_text(encoding="utf-8")
    assert text.startswith("---\nlanguage: no # Norwegian\nmodel-index:\n- name: ")
