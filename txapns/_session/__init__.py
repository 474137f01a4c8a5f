"""The connections to a gateway, and what is sent over them. Private: programs use :mod:`txapns.client`."""
