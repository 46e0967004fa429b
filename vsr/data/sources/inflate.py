"""What inflates: zlib, or zlib-ng where its package is installed (``pip install zlib-ng``), faster by a third.

The bytes are the same. Inflating is four fifths of decoding a PNG, and half of reading a compressed tile.
"""

from importlib.util import find_spec

if find_spec("zlib_ng"):
    from zlib_ng import zlib_ng as inflater
else:
    import zlib as inflater

__all__ = ["inflater"]
