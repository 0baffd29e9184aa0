"""The experiments of "What Does BERT Look At?" (Clark, Khandelwal, Levy and Manning 2019) on any model and language."""
