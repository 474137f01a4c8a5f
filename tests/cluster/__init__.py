"""Tests of several daemons that share a database, all in processes of their own."""
