"""What every room above knows: plan of answers, statements, SQL words, session states, the classes and their fields."""
