"""The 1,797 handwritten digits that scikit-learn ships: nothing is downloaded."""

import torch

__all__ = ["load"]


def load(split, root=None):
    """1,437 train and 360 test images ``[N, 1, 8, 8]``, the same ones on every machine."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    # The pixels are 0 to 16; the network takes bytes.
    images = (torch.from_numpy(images) * 255 // 16).to(torch.uint8).view(-1, 1, 8, 8)
    train, test = train_test_split(
        range(len(labels)), test_size=360, random_state=0, stratify=labels
    )
    chosen = torch.tensor(train if split == "train" else test)
    return images[chosen], torch.from_numpy(labels).long()[chosen]
