"""Keys and certificates, read and checked. Private: programs use :mod:`txapns.credentials`."""
