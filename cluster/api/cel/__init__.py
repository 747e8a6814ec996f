"""Rules that the authors of definitions write: x-kubernetes-validations, in CEL, as Kubernetes enforces them.

    names         how a property is called in a rule: a-b is a__dash__b
    types         what a schema says of types, for the compiler: a rule cannot look at a field that is not there
    functions     which functions there are, for the compiler; a rule that calls another one is refused
    library       the functions of Kubernetes' that the library for CEL has not
    sizes         how large values may be by the schema, and how large those of an object are
    cost          what a rule may cost, by such sizes: in Kubernetes' units, and in time
    rewriting     a checked rule, as it can be evaluated on plain values
    values        an object, as rules see it
    compiling     all of that for the rules of one place in a schema
    definitions   what is wrong with the rules of a definition
    objects       what an object breaks

CEL itself is Google's implementation (cel-expr-python), which is imported when a schema with rules is compiled. All of
this is pure. What is expensive is refused before it runs: evaluation cannot be interrupted, and one writer waits for
it.
"""
