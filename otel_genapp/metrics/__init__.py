"""The `genapp_` families: instruments, Views, the label guard and `/prometheus`."""
