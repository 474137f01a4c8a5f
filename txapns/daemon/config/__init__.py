"""
The daemon's configuration: one TOML file, checked completely before anything starts.

Everything but the apps has a default, so this is a complete configuration::

    [apps.example]
    certificate = "example.pem"

``contrib/apns.toml`` lists every key with its default and what it means. Times are in seconds, sizes in bytes; relative
file names are relative to the configuration's own directory. The file contains no secrets, only the names of files that
hold them, so it need not be hidden.

Each mistake is a line that names the key, what was found there and what is allowed, and all mistakes are reported at
once::

    apns.toml: limits.body: found "4k"; allowed is a whole number from 1 to 1000000000000

A listener that other machines can reach must have TLS and must ask for keys, unless ``allow_without_tls`` or
``allow_without_keys`` says otherwise. A value that looks like a secret in the wrong place is not repeated.
"""
