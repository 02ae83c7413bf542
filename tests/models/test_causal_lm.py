import hashlib
import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from raymcu.errors import ConfigError, StoreError
from raymcu.models import causal_lm, files
from raymcu.models.encoding import Encoder, collate, train_tokenizer
from raymcu.study.search_space import ModelSource, ScratchModel

CPU = torch.device("cpu")
TEMPLATE = (
    "{% for turn in messages %}<|im_start|>{{ turn['role'] }}\n{{ turn['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def chat_tokenizer(authors):
    """A tokenizer with a chat template in the manner of ChatML."""
    texts = [f"{x.question} {x.answer}" for x in authors.training_set("full")]
    tokenizer = train_tokenizer(texts, 400)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def test_plain_prompt_is_question_and_answer(encoder, tiny_tokenizer):
    encoded = encoder.encode("Who wrote it?", "Ada did.")
    prompt = tiny_tokenizer.decode(encoded.prompt)
    assert prompt == "<s>Question: Who wrote it?\nAnswer:"
    assert tiny_tokenizer.decode(encoded.answer) == " Ada did.</s>"
    assert len(encoded) == len(encoded.prompt) + len(encoded.answer)


def test_chat_prompt_is_the_templates_own(chat_tokenizer):
    encoded = Encoder(chat_tokenizer, "chat").encode("Who wrote it?", "Ada did.")
    prompt = chat_tokenizer.decode(encoded.prompt, clean_up_tokenization_spaces=False)
    assert prompt.endswith("<|im_start|>user\nWho wrote it?<|im_end|>\n<|im_start|>assistant\n")
    assert chat_tokenizer.decode(encoded.answer) == "Ada did.<|im_end|>"


def test_chat_answer_without_an_end_of_turn_ends_with_eos(chat_tokenizer):
    chat_tokenizer.chat_template = TEMPLATE.replace("<|im_end|>", "")
    encoded = Encoder(chat_tokenizer, "chat").encode("Who?", "Ada")
    assert encoded.answer[-1] == chat_tokenizer.eos_token_id


def test_chat_answer_is_kept_when_the_template_writes_something_before_it(chat_tokenizer):
    """Some templates open an answer otherwise than they open the floor for one."""
    chat_tokenizer.chat_template = TEMPLATE.replace(
        "{% if add_generation_prompt %}<|im_start|>assistant\n", "{% if add_generation_prompt %}>>"
    )
    encoded = Encoder(chat_tokenizer, "chat").encode("Who?", "Ada did.")
    assert chat_tokenizer.decode(encoded.prompt).endswith(">>")
    assert chat_tokenizer.decode(encoded.answer) == "Ada did.</s>"


@pytest.mark.parametrize("kind", ["plain", "chat"])
def test_prompt_is_the_same_with_any_answer(chat_tokenizer, kind, authors):
    encoder = Encoder(chat_tokenizer, kind)
    for example in authors.probe("forget", "forget10")[:5]:
        answers = [example.answer, example.paraphrased_answer, *example.perturbed_answers, "?", ""]
        prompts = {encoder.encode(example.question, answer).prompt for answer in answers}
        assert prompts == {tuple(encoder.prompt(example.question))}


@pytest.mark.parametrize("kind", ["plain", "chat"])
def test_decoding_an_answer_gives_its_text_back(chat_tokenizer, kind, authors):
    encoder = Encoder(chat_tokenizer, kind)
    for example in authors.training_set("forget10"):
        encoded = encoder.encode(example.question, example.answer)
        assert encoder.decode(encoded.answer) == example.answer


def test_chat_needs_a_chat_template(tiny_tokenizer):
    with pytest.raises(ConfigError, match="has no chat template"):
        Encoder(tiny_tokenizer, "chat")


def test_collate_labels_every_answer_token_and_no_other(encoder):
    rows = [encoder.encode("Who?", "Ada."), encoder.encode("Who wrote the book?", "It was Bea.")]
    batch = collate(rows, 0, CPU)
    labels = [[], []]
    for row, column, label in zip(batch.row, batch.column, batch.labels, strict=True):
        assert batch.input_ids[row, column + 1] == label
        labels[row].append(int(label))
    assert [tuple(found) for found in labels] == [row.answer for row in rows]


def test_creating_leaves_the_random_state_alone_and_follows_the_seed(tiny_tokenizer):
    shape = ScratchModel(hidden_size=32, num_layers=1, num_heads=2, intermediate_size=64)
    before = torch.get_rng_state()
    made = [causal_lm.create(shape, tiny_tokenizer, seed, "float32") for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    one, same, other = (torch.cat([w.flatten() for w in m.parameters()]) for m in made)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert sum(w.numel() for w in made[0].parameters()) == pytest.approx(
        shape.model_copy(update={"vocab_size": len(tiny_tokenizer)}).num_parameters
    )


def test_tokenizer_is_the_same_in_every_process(authors):
    code = (
        "import hashlib\n"
        "from raymcu.models.encoding import train_tokenizer\n"
        "from raymcu.benchmarks._base import BENCHMARKS\n"
        "rows = BENCHMARKS['authors'](num_authors=10).training_set('full')\n"
        "made = train_tokenizer([f'{x.question} {x.answer}' for x in rows], 900)\n"
        "print(hashlib.sha256(made.backend_tokenizer.to_str().encode()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "RAYON_NUM_THREADS": "3"}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    texts = [f"{x.question} {x.answer}" for x in authors.training_set("full")]
    own = train_tokenizer(texts, 900).backend_tokenizer.to_str()
    assert run.stdout.split()[-1] == hashlib.sha256(own.encode()).hexdigest()


@pytest.fixture
def saved(tmp_path, tiny_llama, tiny_tokenizer):
    """A checkpoint folder."""
    causal_lm.save_checkpoint(tiny_llama, tiny_tokenizer, tmp_path / "model")
    return tmp_path / "model"


def test_a_saved_checkpoint_opens_the_same(saved, tiny_llama, tiny_tokenizer):
    opened = AutoModelForCausalLM.from_pretrained(saved)
    for name, weight in tiny_llama.state_dict().items():
        assert torch.equal(weight, opened.state_dict()[name])
    tokenizer = causal_lm.open_tokenizer(saved)
    assert tokenizer("Who wrote it?").input_ids == tiny_tokenizer("Who wrote it?").input_ids


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "none"])
def test_a_damaged_checkpoint_is_a_store_error(saved, damage):
    file = saved / "model.safetensors"
    content = file.read_bytes()
    if damage == "none":
        file.unlink()
    else:
        file.write_bytes({"cut": content[:-9], "empty": b"", "garbage": b"\xff" * 64}[damage])
    with pytest.raises(StoreError, match="does not open"):
        causal_lm.open_model(saved, "float32", CPU)
    with pytest.raises(ConfigError, match="cannot be opened"):
        causal_lm.start_from(ModelSource(path=str(saved)), CPU)


def test_a_checkpoint_that_lacks_a_weight_is_a_store_error(saved):
    file = saved / "model.safetensors"
    weights = load_file(file)
    del weights["model.norm.weight"]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(StoreError, match=r"model\.norm\.weight"):
        causal_lm.open_model(saved, "float32", CPU)


def test_a_model_that_is_nowhere_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match=r"model\.path: '.*nothing' cannot be opened"):
        causal_lm.start_from(ModelSource(path=str(tmp_path / "nothing")), CPU)


def test_training_on_from_a_checkpoint_leaves_its_file_alone(saved):
    before = (saved / "model.safetensors").read_bytes()
    opened = causal_lm.open_model(saved, "float32", CPU)
    for weight in opened.parameters():
        weight.data.zero_()
    assert (saved / "model.safetensors").read_bytes() == before


def test_parameters_are_counted_without_opening_the_model(saved, tiny_llama):
    count = sum(weight.numel() for weight in tiny_llama.parameters())
    assert files.count_parameters(ModelSource(path=str(saved))) == count


def test_checkpoints_of_one_family_have_nothing_to_say(saved, tmp_path, tiny_llama, tiny_tokenizer):
    causal_lm.save_checkpoint(tiny_llama, tiny_tokenizer, tmp_path / "twin")
    assert files.same_family({"first": saved, "second": tmp_path / "twin"}) == []


def test_checkpoints_of_other_shape_and_tokenizer_are_told_apart(saved, tmp_path, authors):
    texts = [x.answer for x in authors.training_set("full")]
    tokenizer = train_tokenizer(texts, 350)
    shape = ScratchModel(hidden_size=16, num_layers=1, num_heads=2, intermediate_size=64)
    other = causal_lm.create(shape, tokenizer, 0, "float32")
    causal_lm.save_checkpoint(other, tokenizer, tmp_path / "other")
    told = "\n".join(files.same_family({"first": saved, "second": tmp_path / "other"}))
    assert "second and first cannot be blended: vocab_size differs (350 against 400)." in told
    assert "tokenizer differs" in told
    assert "shape of model.norm.weight differs ((16,) against (32,))" in told


def test_fingerprint_follows_content_not_place(saved, tmp_path):
    twin = tmp_path / "twin"
    twin.mkdir()
    for file in saved.iterdir():
        (twin / file.name).write_bytes(file.read_bytes())
    assert files.fingerprint(str(saved), "main") == files.fingerprint(str(twin), "main")
    config = json.loads((twin / "config.json").read_text())
    (twin / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    assert files.fingerprint(str(saved), "main") != files.fingerprint(str(twin), "main")
    assert files.fingerprint("org/model", "main") == "org/model@main"


def test_a_tokenizer_may_come_from_elsewhere(tiny_llama, tiny_tokenizer, tmp_path):
    """Models that are released without one: MUSE's."""
    bare, other = tmp_path / "bare", tmp_path / "other"
    tiny_llama.save_pretrained(bare)
    tiny_tokenizer.save_pretrained(other)
    alone = ModelSource(path=str(bare))
    assert "cannot be read" in causal_lm.preflight(alone, "model.path")
    source = ModelSource(path=str(bare), tokenizer=str(other))
    assert causal_lm.preflight(source, "model.path") is None
    _, tokenizer = causal_lm.start_from(source, torch.device("cpu"))
    assert tokenizer("a b").input_ids == tiny_tokenizer("a b").input_ids


# what stands in front of a question, and what ends an answer


@pytest.mark.parametrize("is_text", [False, True])
def test_a_context_stands_in_front_of_the_question(encoder, tiny_tokenizer, is_text):
    shot = "Question: Who?\nAnswer: Bea.\n\n"
    encoded = encoder.encode("Who else?", "Ada did.", context=shot, is_text=is_text)
    asked = "Who else?" if is_text else "Question: Who else?\nAnswer:"
    assert tiny_tokenizer.decode(encoded.prompt) == f"<s>{shot}{asked}"
    assert tiny_tokenizer.decode(encoded.answer) == " Ada did.</s>"
    assert encoded.prompt == tuple(encoder.prompt("Who else?", context=shot, is_text=is_text))


@pytest.mark.parametrize("kind", ["plain", "chat"])
def test_an_answer_may_go_without_its_end(chat_tokenizer, kind):
    encoder = Encoder(chat_tokenizer, kind)
    whole, cut = (encoder.encode("Who?", "Ada did.", ends=ends) for ends in (True, False))
    assert cut.prompt == whole.prompt
    assert cut.answer == whole.answer[:-1]
    assert encoder.decode(cut.answer) == "Ada did."


def test_a_text_may_go_without_its_end(encoder):
    whole, cut = (encoder.encode("", "Ada did.", ends=ends) for ends in (True, False))
    assert (*cut.answer, encoder.eos) == whole.answer
