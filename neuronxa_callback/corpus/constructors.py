"""How a corpus is made of files, tables, data sets or the built-in sentences.

Every constructor drops unusable pairs, lists them in ``dropped`` with file and line, and logs one
warning that counts them per language. ``notes`` says which columns or files were taken and which
were left out. A file that is no text, such as a git-lfs pointer, is refused. Readers are imported
when they are called: importing this module needs the standard library only.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from neuronxa_callback.corpus.rows import PIVOT, ParallelRows


class CorpusConstructors(ABC):
    """The ``builtin``, ``read`` and ``from_...`` constructors of ``ParallelCorpus``."""

    @classmethod
    @abstractmethod
    def from_rows(cls, rows: ParallelRows) -> Self:
        """A corpus of the rows that a reader returned."""

    @classmethod
    def builtin(
        cls, split: str = "dev", languages: Iterable[str] | None = None, pivot: str = PIVOT
    ) -> Self:
        """The sentences that come with the package, in two independent halves.

        >>> from neuronxa_callback import ParallelCorpus
        >>> ParallelCorpus.builtin("test", languages=["de", "Hindi"])
        ParallelCorpus('builtin:test@1': 100 pairs, eng_Latn with 2 languages: deu_Latn, hin_Deva)

        Args:
            split: ``"dev"`` to monitor training, ``"test"`` to confirm a choice made on ``dev``.
            languages: Codes or names of languages; None for all but the pivot.
            pivot: The language that the others are compared with.

        Raises:
            CorpusError: If there is no such split or language.
        """
        from neuronxa_callback.corpus.readers.builtin import read_builtin

        return cls.from_rows(read_builtin(split, languages, pivot))

    @classmethod
    def read(
        cls,
        path: str | Path,
        reader: str | None = None,
        pivot: str = PIVOT,
        languages: Iterable[str] | None = None,
        n_pairs: int | None = None,
        order: str = "spread",
        **options: Any,
    ) -> Self:
        """A corpus of a folder or file in any supported format; guesses the format if omitted.

        Args:
            path: A folder, a file or a prefix of files; with ``reader="dataset"`` a data set.
            reader: ``folder``, ``tatoeba``, ``bible``, ``tsv``, ``jsonl``, ``parquet`` or
                ``dataset``; None to guess from the names and first lines of the files.
            pivot: The language that the others are compared with.
            languages: Codes or names of languages; None for all.
            n_pairs: The first n usable pairs in the order; None for all.
            order: Which pairs come first: ``"spread"`` takes them with a fixed stride over the
                whole file, where documents are known one of each first; ``"file"`` from its
                beginning, reading no further than needed. A stream keeps its own order.
            **options: Further options of ``from_<reader>``, for instance ``extension``.

        Raises:
            CorpusError: If the reader or option is unknown, or the files cannot be read.
        """
        from neuronxa_callback.corpus.readers import detect

        common = {"pivot": pivot, "languages": languages, "n_pairs": n_pairs, "order": order}
        return cls.from_rows(detect.read(path, reader, **common, **options))

    @classmethod
    def from_folder(
        cls,
        path: str | Path,
        pivot: str = PIVOT,
        languages: Iterable[str] | None = None,
        n_pairs: int | None = None,
        extension: str | None = None,
        order: str = "spread",
    ) -> Self:
        """A folder with one file per language; lines with equal numbers are translations.

        Args:
            path: The folder: ``<code>.<ext>`` (FLORES-200 ``deu_Latn.dev``), ``dev.<code>`` or
                ``<name>.<code>.<ext>`` (NTREX-128), also with ``.gz``; codes in any usual form. A
                folder of ``<code>.parquet`` or ``<code>.jsonl`` (FLORES+) is joined by ``id``.
            pivot: The language that the others are compared with.
            languages: Codes or names of languages; None for all.
            n_pairs: The first n usable pairs in the order; None for all.
            extension: Which files, if a language has several (``dev``, ``devtest``).
            order: ``"spread"`` or ``"file"``, see ``read``.

        Raises:
            CorpusError: If there is no such folder, file or language, if line counts differ, or if
                blank lines show that lines are shifted.
        """
        from neuronxa_callback.corpus.readers.folder import read_folder

        return cls.from_rows(read_folder(path, pivot, languages, n_pairs, extension, order))

    @classmethod
    def from_tatoeba(
        cls,
        path: str | Path,
        pivot: str = PIVOT,
        languages: Iterable[str] | None = None,
        n_pairs: int | None = None,
        order: str = "spread",
    ) -> Self:
        """Two files per language: its sentences, and the pivot sentences that they translate.

        Args:
            path: A folder of ``tatoeba.deu-eng.deu`` and ``tatoeba.deu-eng.eng``, or a prefix of
                files: ``data/train`` for ``data/train.de`` and ``data/train.en``.
            pivot: The language that the others are compared with.
            languages: Codes or names of languages; None for all.
            n_pairs: The first n usable pairs of every language in the order; None for all.
            order: ``"spread"`` or ``"file"``, see ``read``.

        Raises:
            CorpusError: If there is no such folder, file or language, or line counts differ.
        """
        from neuronxa_callback.corpus.readers.folder import read_tatoeba

        return cls.from_rows(read_tatoeba(path, pivot, languages, n_pairs, order))

    @classmethod
    def from_bible(
        cls,
        path: str | Path,
        pivot: str = PIVOT,
        languages: Iterable[str] | None = None,
        n_pairs: int | None = None,
        order: str = "spread",
    ) -> Self:
        """A folder of Bibles as in PBC and sPBC, aligned by verse id: ``verse id <tab> text``.

        A verse that is missing or empty in one language is dropped in all; lines that begin with
        ``#`` are comments. Memory holds the ids of all verses, but the text of used verses only.

        Args:
            path: The folder; file names begin with a language code (``deu-x-bible-luther.txt``).
            pivot: The language that the others are compared with; verses keep its order.
            languages: Codes or names of languages; None for all.
            n_pairs: The first n usable verses in the order; None for all.
            order: ``"spread"`` or ``"file"``, see ``read``.

        Raises:
            CorpusError: If there is no such folder or language, or a line has no tab.
        """
        from neuronxa_callback.corpus.readers.bible import read_bible

        return cls.from_rows(read_bible(path, pivot, languages, n_pairs, order))

    @classmethod
    def from_tsv(
        cls,
        path: str | Path,
        pivot: str = PIVOT,
        languages: Iterable[str] | None = None,
        n_pairs: int | None = None,
        columns: Mapping[str, str] | None = None,
        delimiter: str | None = None,
        quoted: bool = True,
        order: str = "spread",
    ) -> Self:
        """A tsv or csv table whose header has language codes or names.

        A column is a language if its name is one (``de``, ``German``, ``sentence_deu_Latn``) and
        its cells look like sentences; ``notes`` names the columns that were left out.

        Args:
            path: The file, also ``.gz``.
            pivot: The language that the others are compared with.
            languages: Codes or names of languages; None for every column named by a language.
            n_pairs: The first n usable pairs in the order; None for all.
            columns: language -> column; they are taken whatever their names and cells are.
            delimiter: None for a tab, and in ``.csv`` files for the most frequent of comma,
                semicolon and tab in the header.
            quoted: Whether a quotation mark at the start of a cell encloses the cell, as in csv.
            order: ``"spread"`` or ``"file"``, see ``read``.

        Raises:
            CorpusError: If there is no such file or column, or a row has more or fewer cells than
                the header.
        """
        from neuronxa_callback.corpus.readers.tables import read_tsv

        return cls.from_rows(
            read_tsv(path, pivot, languages, n_pairs, columns, delimiter, quoted, order)
        )

    @classmethod
    def from_jsonl(
        cls,
        path: str | Path,
        pivot: str = PIVOT,
        languages: Iterable[str] | None = None,
        n_pairs: int | None = None,
        columns: Mapping[str, str] | None = None,
        order: str = "spread",
    ) -> Self:
        """A file with one JSON object per line: ``{"eng_Latn": "...", "deu_Latn": "..."}``.

        An array of objects and an object of columns are read, too. Columns are chosen as by
        ``from_tsv``.

        Args:
            path: The file, also ``.gz``.
            pivot: The language that the others are compared with.
            languages: Codes or names of languages; None for every key named by a language, in
                the object or in its ``"translation"``.
            n_pairs: The first n usable pairs in the order; None for all.
            columns: language -> key; ``translation.de`` is the key ``de`` of a nested object.
            order: ``"spread"`` or ``"file"``, see ``read``.

        Raises:
            CorpusError: If there is no such file or key, or a line is not a JSON object.
        """
        from neuronxa_callback.corpus.readers.tables import read_jsonl

        return cls.from_rows(read_jsonl(path, pivot, languages, n_pairs, columns, order))

    @classmethod
    def from_parquet(
        cls,
        path: str | Path,
        pivot: str = PIVOT,
        languages: Iterable[str] | None = None,
        n_pairs: int | None = None,
        columns: Mapping[str, str] | None = None,
        order: str = "spread",
    ) -> Self:
        """A parquet file with one column per language, or one row per sentence and language.

        Needs ``pyarrow``. FLORES+ as one table is joined by ``id``.

        Args:
            path: The file.
            pivot: The language that the others are compared with.
            languages: Codes or names of languages; None for every column named by a language.
            n_pairs: The first n usable pairs in the order; None for all.
            columns: language -> column, if their names are no languages.
            order: ``"spread"`` or ``"file"``, see ``read``.

        Raises:
            CorpusError: If there is no such file or column, or pyarrow is not installed.
        """
        from neuronxa_callback.corpus.readers.tables import read_parquet

        return cls.from_rows(read_parquet(path, pivot, languages, n_pairs, columns, order))

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,
        pivot: str = PIVOT,
        languages: Iterable[str] | None = None,
        n_pairs: int | None = None,
        columns: Mapping[str, str] | None = None,
        split: str | None = None,
        config: str | None = None,
        order: str = "spread",
    ) -> Self:
        """A data set of the Hugging Face hub, or any iterable of dictionaries.

        >>> from neuronxa_callback import ParallelCorpus
        >>> rows = [{"en": "Yes.", "de": "Ja."}, {"en": "No.", "de": "Nein."}]
        >>> ParallelCorpus.from_dataset(rows)
        ParallelCorpus('dataset': 2 pairs, eng_Latn with 1 language: deu_Latn)

        Args:
            dataset: A name on the hub (streamed; needs the ``datasets`` library), a data set in
                any format, a table of pandas, polars or pyarrow, or a dictionary of lists.
            pivot: The language that the others are compared with.
            languages: Codes or names of languages; None for every column named by a language.
            n_pairs: The first n usable pairs in the order; None for all.
            columns: language -> column; ``translation.de`` is the key ``de`` of a nested
                dictionary.
            split: Which split, if there are several.
            config: Which configuration of a data set on the hub.
            order: ``"spread"`` or ``"file"``, see ``read``.

        Raises:
            CorpusError: If there is no such data set, split or column.
        """
        from neuronxa_callback.corpus.readers.tables import read_dataset

        return cls.from_rows(
            read_dataset(dataset, pivot, languages, n_pairs, columns, split, config, order)
        )
