"""Result files of benchmark tools -> rows of measured runs; one module per tool, listed in ``registry``."""
