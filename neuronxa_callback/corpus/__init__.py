"""The sentences: parallel corpora, their readers and what is wrong with them."""
