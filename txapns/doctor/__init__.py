"""What is wrong between a credential and Apple: values for a person or a program to read. Nothing here prints."""
