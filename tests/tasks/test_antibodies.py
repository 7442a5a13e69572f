"""Sequences, templates, files and the metric of the task of antibodies."""

import re

import pytest
import torch

from builders.statistics import seeded
from jumpsteps.tasks.antibodies import (
    RESIDUES,
    ResidueTokens,
    antibody_task,
    read_sequences,
    without_hallmarks,
    write_fasta,
)

IDS = {letter: 5 + i for i, letter in enumerate(RESIDUES)}
TOKENS = ResidueTokens(IDS)
HEAVY = (
    "QVQLQQPGAELVKPGASVKMSCKASGYTFTSYNMHWVKQTPGRGLEWIGAIYPGNGDTSYNQKFKGKATLTADKSSSTAYMQLSSLTSED"
    "SAVYYCARSTYYGGDWYFNVWGAGTTVTVSA"
)  # rituximab
LIGHT = (
    "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVAWYQQKPGKAPKLLIYSASFLYSGVPSRFSGSRSGTDFTLTISSLQPEDFATYYCQQ"
    "HYTTPPTFGQGTKVEIK"
)  # trastuzumab


def test_sequences_become_tokens_and_back():
    assert TOKENS.encode("ACY") == [5, 6, 24]
    assert TOKENS.decode(TOKENS.encode(HEAVY)) == HEAVY
    assert TOKENS.decode([5, 4, 0, 24]) == "A??Y"  # MASK and [PAD]
    with pytest.raises(
        ValueError, match=re.escape("the sequence holds 'X' at residue 2; residues")
    ):
        TOKENS.encode("AXC")


def test_a_template_observes_its_letters():
    given = TOKENS.template(" AC??Y\n")
    assert given.mask.tolist() == [True, True, False, False, True]
    assert given.tokens[given.mask].tolist() == [5, 6, 24]
    assert not TOKENS.template("??").mask.any()


@pytest.mark.parametrize(
    ("text", "message"),
    [("ACY", "has no ?"), ("", "has no ?"), ("aC?", "holds 'a' at residue 1"), ("A-?", "'-'")],
)
def test_templates_that_cannot_be(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        TOKENS.template(text)


def test_fasta_and_one_sequence_a_line(tmp_path):
    file = tmp_path / "x"
    file.write_text("\n>one two\nACD\nEFG\n\n>three\nac\n")
    assert read_sequences(file) == [("one two", "ACDEFG"), ("three", "AC")]
    file.write_text("ACD\n\n EF \n")
    assert read_sequences(file) == [("line 1", "ACD"), ("line 3", "EF")]
    write_fasta(file, ["ACD", "EF"], ["a b", "c"])
    assert file.read_text() == ">a b\nACD\n>c\nEF\n"
    assert read_sequences(file) == [("a b", "ACD"), ("c", "EF")]


def test_files_without_sequences(tmp_path):
    file = tmp_path / "x"
    with pytest.raises(ValueError, match="there is no file"):
        read_sequences(file)
    file.write_text("\n \n")
    with pytest.raises(ValueError, match="holds no sequence"):
        read_sequences(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is not text"):
        read_sequences(file)


def test_data_are_the_sequences_of_the_models_length(tmp_path):
    file, task = tmp_path / "x.fasta", antibody_task(IDS, 4)
    sequences = ["ACDE", "FGH", "IKLM", "NPQR", "ACDEF"]
    write_fasta(file, sequences, list("abcde"))
    data, name = task.read_data(file, 2, seeded(0))
    assert data.shape == (2, 4)
    drawn = {task.show(row) for row in data}
    assert len(drawn) == 2
    assert drawn < {"ACDE", "IKLM", "NPQR"}
    assert re.fullmatch(r"x.fasta sha256:\w{64}, 3 of 5 sequences have 4 residues", name)
    everything, _ = task.read_data(file, 99, seeded(0))
    assert sorted(task.show(row) for row in everything) == ["ACDE", "IKLM", "NPQR"]
    with pytest.raises(ValueError, match=r"of 3 to 5 residues and none of 9; .* --length"):
        antibody_task(IDS, 9).read_data(file, 2, seeded(0))
    write_fasta(file, ["ACDX"], ["b"])
    with pytest.raises(ValueError, match=r"x.fasta, b holds 'X' at residue 4"):
        task.read_data(file, 2, seeded(0))
    with pytest.raises(ValueError, match="brings no data; pass --data"):
        task.sample_data(2, seeded(0))


def test_templates_from_a_file(tmp_path):
    file, task = tmp_path / "x", antibody_task(IDS, 4)
    file.write_text("AC??\n?CDE\n")
    given = task.read_given(file, 4)
    assert given.mask.tolist() == [[True, True, False, False], [False, True, True, True]]
    with pytest.raises(ValueError, match=r"line 1 has 4 residues, the model 5; pass --length 4"):
        task.read_given(file, 5)
    file.write_text("ACDE\n")
    with pytest.raises(ValueError, match=r"line 1 has no \?"):
        task.read_given(file, 4)


def test_the_hallmarks_of_variable_domains():
    variants = [
        HEAVY,
        LIGHT,
        HEAVY.replace("C", "S", 1),
        HEAVY.replace("W", "A", 1),
        HEAVY.replace("WGAG", "WAAG"),
        HEAVY[::-1],
    ]
    found = [
        float(without_hallmarks(torch.tensor([TOKENS.encode(v)]), tokens=TOKENS)) for v in variants
    ]
    assert found == [0, 0, 1, 1, 1, 1]
    task = antibody_task(IDS, len(HEAVY))
    both = torch.tensor([TOKENS.encode(HEAVY), TOKENS.encode(HEAVY[::-1])])
    assert task.metric(both).tolist() == [0, 1]
    assert task.metric(both).dtype == torch.float64


def test_a_fasta_file_of_samples(tmp_path):
    task, samples = antibody_task(IDS, 3), torch.tensor([[5, 6, 7], [24, 5, 5]])
    task.write_file(tmp_path / "x.fasta", samples, ["one", "two"])
    assert (tmp_path / "x.fasta").read_text() == ">one\nACD\n>two\nYAA\n"
    assert task.file_suffixes == (".fasta", ".fa")
