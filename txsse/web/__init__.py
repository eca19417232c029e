"""
HTTP without event streams: what Twisted's server lacks, and plain answers.
"""
