"""Stand-in for the part of ComfyUI that hands a node's method a class on which nothing can be set."""


def lock_class(cls):
    class Locked(type(cls)):
        def __setattr__(cls_, name, value):
            raise AttributeError(f"Cannot modify class attribute '{name}' on locked class '{cls_.__name__}'")

    return Locked(cls.__name__, (cls,), {})


def make_locked_method_func(type_obj, func, class_clone):
    method, locked = getattr(type_obj, func).__func__, lock_class(class_clone)
    return lambda **inputs: method(locked, **inputs)


def first_real_override(cls, name):
    """The method where the node defines it itself, else None: the stand-in of the base class has none to override."""
    return getattr(cls, name, None)
