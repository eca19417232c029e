"""
A hub as a service: what ``twist txsse`` runs.
"""
