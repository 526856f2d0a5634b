"""What older versions of transformers lack, for generated code only.

Where a file of ours imports a name that a file here has, the generated file holds the latter. A name is looked for
first where the newest version has it. Configs and models are two files, because transformers imports the config while
it is being imported itself.
"""
