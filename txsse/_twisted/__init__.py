"""
The private names of Twisted that txsse uses, all of them, and nothing else.

Twisted may rename them in any release. So each function here looks, at the time of use, whether what it needs
is as expected, and returns ``None``, ``False`` or a default where it is not; the caller then goes on with
Twisted's public API, which is slower or has a feature less. :mod:`txsse._twisted.names` lists the names, what
each is for, and what is lost without it. ``Any`` stands for Twisted's untyped objects, in this package alone.
"""
