"""Text classifiers: texts to padded batches with a mask, from scratch (BERT) or opened."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from tokenizers import processors
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
)

from raymcu.benchmarks import Classified
from raymcu.models.causal_lm import DTYPES, open_tokenizer
from raymcu.models.class_scorer import ClassScorer
from raymcu.models.classifying import Classifiers, Item, batch_of, hub_options
from raymcu.models.encoding import Batch, train_tokenizer
from raymcu.models.heads import labelled
from raymcu.study.scratch_classifiers import ScratchBert
from raymcu.study.search_space import ModelSource


class TextEncoder:
    """Turns texts into items and batches; what is longer than the model takes is cut."""

    def __init__(self, tokenizer: Any, longest: int) -> None:
        if tokenizer.pad_token_id is None:
            raise ValueError("its tokenizer has no token for padding")
        self.tokenizer = tokenizer
        self.longest = longest
        """Tokens of the longest input, those at its ends included."""

    def encode(self, example: Classified) -> Item:
        """Return the item of an example's text."""
        cut = {"truncation": True, "max_length": self.longest}
        tokens = self.tokenizer(example.text, **cut).input_ids
        return Item(example.key, example.label, tuple(tokens))

    def collate(self, items: Sequence[Item], device: torch.device) -> Batch:
        """Return a batch, padded on the right."""
        return batch_of(padded(items, self.tokenizer.pad_token_id), items, device)

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files."""
        self.tokenizer.save_pretrained(folder)


def padded(items: Sequence[Item], pad: int) -> dict[str, Tensor]:
    """Return tokens and attention mask, each (batch, longest): these models look at both sides."""
    rows = [torch.tensor(item.tokens) for item in items]
    ids = pad_sequence(rows, batch_first=True, padding_value=pad)
    lengths = torch.tensor([len(row) for row in rows])
    return {
        "input_ids": ids,
        "attention_mask": (torch.arange(ids.shape[1]) < lengths[:, None]).long(),
    }


def open_tokens(folder: str | Path, source: ModelSource | None) -> tuple[Any, int]:
    """Open a tokenizer; return it and how many tokens the model takes at once."""
    own = source.tokenizer if source is not None else None
    tokenizer = open_tokenizer(folder, source) if own is None else open_tokenizer(own)
    if tokenizer.pad_token_id is None:  # as of causal models
        tokenizer.pad_token = tokenizer.eos_token
    config = AutoConfig.from_pretrained(str(folder), **hub_options(folder, source))
    room = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    if config.model_type in {"roberta", "xlm-roberta", "camembert"}:
        room -= 2  # their positions count from behind that of padding
    return tokenizer, int(min(room, tokenizer.model_max_length))


def made_tokens(shape: ScratchBert, texts: Sequence[str]) -> Any:
    """Train a byte-level BPE whose texts stand between ``<s>`` and ``</s>``."""
    tokenizer = train_tokenizer(texts, shape.vocab_size)
    ends = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<s>", "</s>")]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=ends
    )
    tokenizer.model_max_length = shape.max_length
    return tokenizer


def sizes(shape: ScratchBert, tokenizer: Any) -> dict[str, Any]:
    """Return what the config of a BERT, or of what was made from it, says of its size."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "intermediate_size": shape.intermediate_size,
        "max_position_embeddings": shape.max_length,
        "hidden_dropout_prob": 0.0,  # small models trained from scratch fit badly as it is
        "attention_probs_dropout_prob": 0.0,
        "pad_token_id": tokenizer.pad_token_id,
    }


class TextScorer(ClassScorer):
    """Scores texts."""

    def __init__(self, model: Any, encoder: Any = None) -> None:
        super().__init__(model, encoder)
        if encoder is not None and model.config.pad_token_id is None:  # to tell where texts end
            model.config.pad_token_id = encoder.tokenizer.pad_token_id

    def run(self, inputs: Any) -> list[Tensor]:
        """Run the model; padding counts for no layer's states."""
        self.model(**inputs)
        return [inputs["attention_mask"]]

    def sample(self) -> dict[str, Tensor]:
        """Return two short texts, one of them padded."""
        ids, mask = torch.arange(4, 16).reshape(2, 6), torch.ones(2, 6, dtype=torch.long)
        mask[1, 4:] = 0
        if self.model.config.pad_token_id is not None:
            ids[1, 4:] = self.model.config.pad_token_id
        return {"input_ids": ids, "attention_mask": mask}

    def _read(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        hidden, masks = super()._read(inputs)
        if hidden.dim() == 3:  # a causal model's head reads all tokens; its last is what counts
            ids = inputs["input_ids"]
            places = torch.arange(ids.shape[1], device=ids.device)
            last = ((ids != self.model.config.pad_token_id) * places).argmax(1)  # as transformers
            hidden = hidden[torch.arange(len(ids), device=ids.device), last]
        return hidden, masks


class TextClassifiers(Classifiers):
    """Networks that `AutoModelForSequenceClassification` opens and that look at both sides."""

    told: ClassVar[str] = "a text classifier"
    auto: ClassVar[Any] = AutoModelForSequenceClassification
    ending: ClassVar[str] = "ForSequenceClassification"
    Scorer: ClassVar[type[ClassScorer]] = TextScorer

    def open_encoder(self, folder: str | Path, source: ModelSource | None = None) -> TextEncoder:
        """Open the tokenizer of a checkpoint folder or hub id.

        Raises:
            OSError: Or ValueError, if it is not there.
        """
        return TextEncoder(*open_tokens(folder, source))

    def create(
        self,
        shape: ScratchBert,
        examples: Sequence[Classified],
        class_names: Sequence[str],
        seed: int,
        dtype: str,
    ) -> tuple[Any, TextEncoder]:
        """Make a small BERT, without dropout, and a tokenizer of the examples' texts."""
        tokenizer = made_tokens(shape, [example.text for example in examples])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            config = BertConfig(**sizes(shape, tokenizer), **labelled(class_names))
            model = BertForSequenceClassification(config).to(DTYPES[dtype])
        return model, TextEncoder(tokenizer, shape.max_length)
