"""Training and inference as a whole, beside the field's: each part is a module here with
`measure(data, quick, say)`.
"""
