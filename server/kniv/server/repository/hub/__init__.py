"""Models from the Hugging Face hub: what a revision holds, its files, and a version folder made of them."""
