// The page does not load this file: without its content each binary is smaller.
