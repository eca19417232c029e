"""
All uses of Twisted's private names, each with a check and a fallback; no other package of txsse uses any.

Twisted may rename them in any release. Therefore each function checks, at the time of use, that the names it
needs are as expected. If they are not, it returns ``None``, ``False`` or a default, and the caller continues
with Twisted's public API, which is slower or lacks a feature. :mod:`txsse._twisted.names` lists the names,
the purpose of each, and what is lost without it. Only this package annotates Twisted's untyped objects with
``Any``.
"""
