"""What recipes for INT8 graphs cost in quality and give in speed."""
