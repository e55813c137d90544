"""Small models trained here, on text that installs as a package: a real training run in minutes.

* `corpus`: the speeches, which of them are held out, and held-out documents as JSON lines.
* `tokenizer`: a byte-level BPE tokenizer trained on the training speeches.
* `neox`: the model, its learning rate, its data order and the steps at which it is kept.
* `training_run`: any run: resumable, cached, byte for byte the same after any interruption.
* `pretrain`: the run of the demo.
* `atomic`: files and folders that are there whole or not at all.
"""
