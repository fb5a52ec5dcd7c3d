"""Networks of other frameworks: NIR graphs both ways, and small snnTorch and SpikingJelly networks.

``parts`` is what all of them are turned into before they become one of ours.
"""
