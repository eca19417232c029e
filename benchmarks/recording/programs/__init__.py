"""
What runs in processes of their own.
"""
